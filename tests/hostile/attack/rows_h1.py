"""Rows 1–18 over HTTP/1.1: framing, line ends, targets, hop-by-hop fields, methods."""

from __future__ import annotations

from collections.abc import Iterator

from attack.outcome import Blocked, Either, Passed, Refused, absent, has, once, sent
from attack.table import HOST, Attack, slug

OK_HOST = b"Host: " + HOST + b"\r\n"


def request(
    fields: bytes = b"", *, line: bytes = b"GET /x HTTP/1.1", body: bytes = b"", host: bytes = OK_HOST
) -> bytes:
    """A request; `fields` are whole lines."""
    return line + b"\r\n" + host + fields + b"\r\n" + body


def post(fields: bytes, body: bytes = b"", line: bytes = b"POST /x HTTP/1.1") -> bytes:
    """A request with a body."""
    return request(fields, line=line, body=body)


CHUNKED = b"Transfer-Encoding: chunked\r\n"
ONE_CHUNK = b"1\r\nx\r\n0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"


def framing() -> Iterator[Attack]:
    """Rows 1 to 4."""
    both = [b"Content-Length: 6\r\n" + CHUNKED, CHUNKED + b"Content-Length: 6\r\n"]
    for order, fields in enumerate(both):
        yield Attack(1, f"order {order}", (post(fields, b"0\r\n\r\nG"),), Refused())
    codings = [
        b"xchunked", b"chunked, gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"\x0bchunked",
        b"chunked\x0b", b"", b'"chunked"', b"chunked;q=1", b",chunked", b"chunked,", b"\xa0chunked", b"chun ked",
    ]  # fmt: skip
    for coding in codings:
        fields = b"Transfer-Encoding: " + coding + b"\r\n"
        yield Attack(2, slug(coding.decode("latin-1")), (post(fields, ONE_CHUNK),), Refused((400, 501)))
    yield Attack(2, "twice", (post(CHUNKED + CHUNKED, ONE_CHUNK),), Refused((400, 501)))
    split = b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"
    yield Attack(2, "in two lines", (post(split, ONE_CHUNK),), Refused((400, 501)))
    for length in (
        b"+3",
        b"-3",
        b"0x3",
        b"3 3",
        b"3,3",
        b"3, 4",
        b"",
        b"3;",
        b"18446744073709551616",
        b"1e1",
        b"\xb23",
    ):
        fields = b"Content-Length: " + length + b"\r\n"
        yield Attack(3, slug(length.decode("latin-1")), (post(fields, b"abc"),), Refused())
    for second in (b"3", b"4"):
        fields = b"Content-Length: 3\r\nContent-Length: " + second + b"\r\n"
        yield Attack(3, f"repeated {second.decode()}", (post(fields, b"abc"),), Refused())
    old = post(CHUNKED, ONE_CHUNK, b"POST /x HTTP/1.0")
    yield Attack(4, "chunked on 1.0", (old,), Refused((400, 426)))
    kept = post(CHUNKED + b"Connection: keep-alive\r\n", ONE_CHUNK + SMUGGLED, b"POST /x HTTP/1.0")
    yield Attack(4, "kept alive", (kept,), Refused((400, 426)))


def chunks() -> Iterator[Attack]:
    """Row 6."""
    bad = {
        "bare LF": b"1\nx\r\n0\r\n\r\n",
        "bare LF behind data": b"1\r\nx\n0\r\n\r\n",
        "bare CR": b"1\rx\r\n0\r\n\r\n",
        "underscore": b"1_0\r\nx\r\n0\r\n\r\n",
        "prefix": b"0x1\r\nx\r\n0\r\n\r\n",
        "sign": b"+1\r\nx\r\n0\r\n\r\n",
        "space before": b" 1\r\nx\r\n0\r\n\r\n",
        "space behind": b"1 \r\nx\r\n0\r\n\r\n",
        "empty": b"\r\nx\r\n0\r\n\r\n",
        "overflow": b"10000000000000001\r\nx\r\n0\r\n\r\n",
        "long overflow": b"f" * 40 + b"\r\nx\r\n0\r\n\r\n",
        "surplus": b"1\r\nxyz\r\n0\r\n\r\n",
        "LF in an extension": b"1;a=\nGET /smuggled HTTP/1.1\r\nx\r\n0\r\n\r\n",
        "NUL in an extension": b"1;a\x00\r\nx\r\n0\r\n\r\n",
        "huge extension": b"1;" + b"e" * 20_000 + b"\r\nx\r\n0\r\n\r\n",
        "many extensions": b"".join(b"1;" + b"e" * 200 + b"\r\nx\r\n" for _ in range(60)) + b"0\r\n\r\n",
        "LF in the trailers": b"1\r\nx\r\n0\r\nA: b\n\r\n",
        "bad trailer": b"1\r\nx\r\n0\r\nno colon\r\n\r\n",
    }
    for name, body in bad.items():
        yield Attack(6, name, (post(CHUNKED, body),), Refused())


def heads() -> Iterator[Attack]:
    """Rows 7 to 9, and 11."""
    end = b"\r\nHost: " + HOST
    lines = {
        "LF everywhere": b"GET /x HTTP/1.1\nHost: " + HOST + b"\n\n",
        "LF behind a field": b"GET /x HTTP/1.1" + end + b"\nX: y\r\n\r\n",
        "LF LF at the end": b"GET /x HTTP/1.1" + end + b"\r\nX: y\n\n",
        "CR in a value": b"GET /x HTTP/1.1" + end + b"\r\nX: a\rb\r\n\r\n",
        "CR CR LF": b"GET /x HTTP/1.1" + end + b"\r\nX: a\r\r\n\r\n",
        "CR in the target": b"GET /x\ry HTTP/1.1" + end + b"\r\n\r\n",
        "CR as the line end": b"GET /x HTTP/1.1\rHost: " + HOST + b"\r\r",
    }
    for name, text in lines.items():
        parts = (text, b"\r\n\r\n") if name == "CR as the line end" else (text,)
        yield Attack(7, name, parts, Refused())
    fields = {
        "folded": b"X: a\r\n b\r\n",
        "folded by tab": b"X: a\r\n\tb\r\n",
        "space before the colon": b"Content-Length : 3\r\n",
        "tab before the colon": b"X\t: 3\r\n",
        "leading space": b" X: y\r\n",
        "NUL in a value": b"X: a\x00b\r\n",
        "NUL in a name": b"X\x00: a\r\n",
        "no name": b": a\r\n",
        "no colon": b"X\r\n",
        "bytes in a name": b"X\xff: a\r\n",
        "brackets in a name": b"X[]: a\r\n",
        "DEL in a value": b"X: a\x7fb\r\n",
    }
    for name, text in fields.items():
        yield Attack(8, name, (request(text),), Refused())
    yield Attack(8, "folded first", (b"GET /x HTTP/1.1\r\n X: y\r\n" + OK_HOST + b"\r\n",), Refused())
    yield Attack(8, "space before the method", (b" " + request(),), Refused())
    for name, host in {
        "none": b"",
        "two": OK_HOST + b"Host: other\r\n",
        "two equal": OK_HOST + OK_HOST,
        "empty": b"Host:\r\n",
        "space": b"Host: a b\r\n",
        "user": b"Host: user@" + HOST + b"\r\n",
        "slash": b"Host: " + HOST + b"/x\r\n",
        "comma path": b"Host: " + HOST + b"#x\r\n",
    }.items():
        yield Attack(9, name, (request(host=host),), Refused())
    large = request(b"X: " + b"y" * 65536 + b"\r\n")
    yield Attack(11, "large field", (large,), Refused((431,)))
    many = request(b"".join(b"X-%d: 1\r\n" % n for n in range(101)))
    yield Attack(11, "many fields", (many,), Refused((431,)))
    long = request(line=b"GET /" + b"x" * 70_000 + b" HTTP/1.1")
    yield Attack(11, "long target", (long,), Refused((414, 431)))


def targets() -> Iterator[Attack]:
    """Rows 10, 15 and 18."""
    same = request(line=b"GET http://" + HOST + b"/x HTTP/1.1", host=b"Host: secret.example\r\n")
    yield Attack(10, "good target", (same,), Passed("/x", [has("host", HOST.decode())]))
    other = request(line=b"GET http://secret.example/x HTTP/1.1")
    yield Attack(10, "bad target", (other,), Blocked((403, 404, 502)))
    odd = request(line=b"GET hTtP://SECRET.example/x HTTP/1.1")
    yield Attack(10, "odd case", (odd,), Either([Blocked((403, 404, 502)), Refused()]))
    user = request(line=b"GET http://" + HOST + b"@secret.example/x HTTP/1.1")
    yield Attack(10, "user information", (user,), Either([Blocked((403, 404, 502)), Refused()]))
    for name, line in {
        "origin form": b"CONNECT /x HTTP/1.1",
        "asterisk": b"CONNECT * HTTP/1.1",
        "on 1.0": b"CONNECT " + HOST + b":80 HTTP/1.0",
        "absolute form": b"CONNECT http://" + HOST + b"/ HTTP/1.1",
        "no port": b"CONNECT " + HOST + b" HTTP/1.1",
        "no target": b"CONNECT  HTTP/1.1",
    }.items():
        yield Attack(15, name, (request(line=line),), Refused((400, 404, 426)))
    early = request(line=b"CONNECT " + HOST + b":80 HTTP/1.1") + SMUGGLED
    yield Attack(15, "early data", (early,), Refused((400, 404)))
    for method in (b"delete", b"DeLeTe", b"DELETE\t", b"get", b"DELETE%20", b"\xc4ELETE"):
        name = slug(method.decode("latin-1"))
        yield Attack(18, name, (request(line=method + b" /x HTTP/1.1"),), Refused())
    yield Attack(18, "plain", (request(line=b"DELETE /x HTTP/1.1"),), Blocked((403,)))
    override = request(b"X-HTTP-Method-Override: DELETE\r\n")
    yield Attack(18, "override", (override,), Passed("/x"))


def hop_by_hop() -> Iterator[Attack]:
    """Rows 14, 16 and 17."""
    h2c = request(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    )
    gone = absent("upgrade", "http2-settings", "connection")
    yield Attack(14, "h2c", (h2c,), Either([Passed("/x", [gone]), Refused((400, 403))]))
    both = request(b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n")
    yield Attack(14, "h2c and another", (both,), Either([Passed("/x", [gone]), Refused((400, 403))]))
    nominated = request(b"Connection: x-identity, x-request-id\r\nX-Identity: me\r\nX-Request-Id: mine\r\n")
    yield Attack(16, "nominated", (nominated,), Passed("/x", [absent("x-identity"), once("x-request-id")]))
    own = request(b"Connection: x-forwarded-client-cert, x-request-id\r\n")
    yield Attack(
        16,
        "set afterwards",
        (own,),
        Passed("/x", [once("x-forwarded-client-cert"), once("x-request-id")]),
        ("inbound",),
    )
    trusted = request(b"Connection: x-forwarded-proto\r\nX-Forwarded-Proto: https\r\n")
    yield Attack(16, "how it was asked", (trusted,), Refused())
    two = request(
        b"Connection: close\r\nConnection: x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\n"
    )
    fields = absent("x-secret", "keep-alive", "proxy-connection")
    yield Attack(16, "in two lines", (two,), Passed("/x", [fields]))
    length = post(b"Connection: content-length\r\nContent-Length: 3\r\n", b"abc")
    yield Attack(16, "content-length", (length,), Either([Passed("/x", [sent(b"abc")]), Refused()]))
    coding = post(b"Connection: transfer-encoding\r\n" + CHUNKED, ONE_CHUNK)
    yield Attack(16, "transfer-encoding", (coding,), Either([Passed("/x", [sent(b"x")]), Refused()]))
    host = request(b"Connection: host\r\n")
    yield Attack(16, "host", (host,), Either([Passed("/x", [has("host", HOST.decode())]), Refused()]))
    trailers = post(
        CHUNKED, b"1\r\nx\r\n0\r\nHost: evil\r\nAuthorization: Bearer x\r\nContent-Length: 9\r\n\r\n"
    )
    checks = [sent(b"x"), has("host", HOST.decode()), absent("authorization", "content-length")]
    yield Attack(17, "trailers", (trailers,), Passed("/x", checks))


ATTACKS = [*framing(), *chunks(), *heads(), *targets(), *hop_by_hop()]
