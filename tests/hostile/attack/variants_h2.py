"""Rows 11–23 over HTTP/2 once more, in the forms that published vulnerabilities of proxies and servers took."""

from __future__ import annotations

from collections.abc import Iterator

from attack.outcome import Blocked, Either, Outcome, Passed, absent, has, sent
from attack.rows_h2 import Refusal, Reset, usual
from attack.table import HOST, Stream, slug

KEPT_OUT: Outcome = Either([Blocked((400, 403, 404, 502)), Reset()])


def pseudo() -> Iterator[Stream]:
    """Rows 15 and 19."""
    good = usual()
    for name, value in (
        (b":Method", b"GET"),
        (b":PATH", b"/admin"),
        (b":path ", b"/y"),
        (b"::path", b"/y"),
        (b":", b"x"),
    ):
        yield Stream(19, f"odd name {slug(name.decode())}", Reset(), head=[*good, (name, value)])
    yield Stream(19, "all behind a field", Reset(), head=[(b"x", b"y"), *good])
    yield Stream(19, "path behind a field", Reset(), head=[*good[:2], (b"x", b"y"), *good[2:]])
    yield Stream(19, "path repeated and different", Reset(), head=[*good, (b":path", b"/admin")])
    yield Stream(19, "nothing at all", Reset(), head=[(b"x", b"y")])
    yield Stream(19, "method only", Reset(), head=good[:1])
    yield Stream(19, "path of a query", Reset(), path=b"?x")
    yield Stream(19, "path of a space", Reset(), path=b" /x")
    yield Stream(19, "an authority's path", Reset(), path=b"secret.example/x")
    odd = usual()
    odd[1] = (b":scheme", b"http://secret.example/?")
    yield Stream(19, "scheme with a host", Reset(), head=odd)
    odd = usual()
    odd[1] = (b":scheme", b"ftp")
    yield Stream(19, "another scheme", Either([Reset(), Passed("/x"), Blocked((400, 403))]), head=odd)
    for name, fields in {
        "without path": [(b":method", b"CONNECT"), (b":scheme",
        b"http"), (b":authority", HOST), (b":protocol", b"websocket")],
        "without scheme": [(b":method", b"CONNECT"), (b":path", b"/x"), (b":authority", HOST), (b":protocol",
        b"websocket")],
        "without authority": [(b":method", b"CONNECT"), (b":scheme", b"http"), (b":path",
        b"/x"), (b":protocol", b"websocket")],
        "empty protocol": [*usual(b"CONNECT"), (b":protocol", b"")],
        "protocol twice": [*usual(b"CONNECT"), (b":protocol", b"websocket"), (b":protocol", b"websocket")],
        "protocol with a space": [*usual(b"CONNECT"), (b":protocol", b"websocket h2c")],
        "protocol h2c": [*usual(b"CONNECT"), (b":protocol", b"h2c")],
    }.items():  # fmt: skip
        yield Stream(15, f"extended CONNECT, {name}", Refusal, head=fields)
    for target in (
        HOST,
        HOST + b":0",
        b":80",
        HOST + b":80/x",
        b"user@" + HOST + b":80",
        b"http://" + HOST + b":80",
        b"",
    ):
        head = [(b":method", b"CONNECT"), (b":authority", target)]
        yield Stream(15, f"CONNECT to {slug(target.decode())}", Refusal, head=head)
    head = [(b":method", b"CONNECT"), (b":authority", HOST + b":80"), (b":scheme", b"http")]
    yield Stream(15, "CONNECT with scheme", Refusal, head=head)


def bytes_for_h1() -> Iterator[Stream]:
    """Rows 20 and 21."""
    for name, byte in {"CR": b"\r", "LF": b"\n", "NUL": b"\0"}.items():
        for where, value in {"first": byte + b"a", "last": b"a" + byte, "alone": byte}.items():
            yield Stream(20, f"{name} {where} in a value", Reset(), fields=[(b"x", value)])
        yield Stream(20, f"{name} in a cookie", Reset(), fields=[(b"cookie", b"a=b" + byte + b"X: y")])
        yield Stream(20, f"{name} in the scheme", Reset(), head=_with(b":scheme", b"http" + byte))
        yield Stream(20, f"{name} in the host", Reset(), fields=[(b"host", HOST + byte + b"X: y")])
        yield Stream(20, f"{name} last in a name", Reset(), fields=[(b"x" + byte, b"y")])
    request = b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n"
    yield Stream(20, "a request in a value", Reset(), fields=[(b"x", request)])
    yield Stream(20, "a request in the path", Reset(), path=b"/x HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled")
    yield Stream(
        20, "a request in the method", Reset(), method=b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET"
    )
    yield Stream(20, "a field in a name", Reset(), fields=[(b"x: y\r\ntransfer-encoding", b"chunked")])
    for byte in (b" ", b"\t", b"\x7f", b"\x80", b"(", b'"', b"/", b"\xe2\x84\xaa", b"=", b"@", b","):
        yield Stream(
            20,
            f"{slug(byte.decode('latin-1'))} in the middle of a name",
            Reset(),
            fields=[(b"a" + byte + b"b", b"y")],
        )
    trimmed: Outcome = Either([Reset(), Passed("/x")])
    for name, value in {
        "space first": b" y",
        "space last": b"y ",
        "tab first": b"\ty",
        "tab last": b"y\t",
    }.items():
        yield Stream(20, f"{name} in a value", trimmed, fields=[(b"x", value)])
    for byte in (b"\x80", b"\xff", b"\xc0\xae", b"\xe2\x80\xae", b'"', b"<", b"\\"):
        safe: Outcome = Either([Reset(), Passed(None), Blocked((400, 307))])
        yield Stream(20, f"{slug(byte.decode('latin-1'))} in the path", safe, path=b"/x" + byte)
    for name, value in {
        b"transfer-encoding": b"identity", b"te": b"trailers, gzip", b"http2-settings": b"AAMAAABk",
        b"upgrade": b"websocket",
        b"connection": b"x-identity", b"proxy-connection": b"close",
    }.items():  # fmt: skip
        taken: Outcome = Either([Reset(), Passed("/x", [absent(name.decode())])])
        yield Stream(
            21,
            f"{name.decode()} {value.decode()}",
            taken if name == b"http2-settings" else Reset(),
            fields=[(name, value)],
        )
    both = [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")]
    yield Stream(1, "length and coding", Reset(), method=b"POST", fields=both, data=(b"abc",))
    yield Stream(2, "coding", Reset(), method=b"POST", fields=both[1:], data=(b"0\r\n\r\n",))
    for name in (
        b"Content-Length",
        b"Transfer-Encoding",
        b"Host",
        b"Cookie",
        b"X-Forwarded-Client-Cert",
        b":Authority",
    ):
        yield Stream(21, f"name {name.decode()} in capitals", Reset(), fields=[(name, b"3")])
    h2c = [
        (b"connection", b"upgrade, http2-settings"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"AAMAAABk"),
    ]
    yield Stream(14, "h2c", Reset(), fields=h2c)
    yield Stream(16, "nominated", Reset(), fields=[(b"connection", b"x-identity"), (b"x-identity", b"me")])


def _with(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value if key == name else old) for key, old in usual()]


def authorities() -> Iterator[Stream]:
    """Rows 9, 10 and 22."""
    for name, authority in {
        "list": HOST + b",secret.example", "space": HOST + b" secret.example",
        "slash": b"secret.example/" + HOST,
        "fragment": HOST + b"#.secret.example", "question": HOST + b"?.secret.example",
        "backslash": HOST + b"\\secret.example",
        "NUL": HOST + b"\0", "bytes": HOST + b"\xff", "scheme": b"http://" + HOST,
        "percent NUL": b"secret.example%00",
        "two ports": b"secret.example:80:80", "port of letters": b"secret.example:http",
        "empty port": b"secret.example:",
        "bracket": b"[secret.example", "only a port": b":80", "dot": b"secret.example.",
        "capitals": b"SECRET.EXAMPLE",
    }.items():  # fmt: skip
        guarded = ("inbound", "gateway")
        named = authority.lower().startswith(b"secret.example")
        outcome: Outcome = KEPT_OUT
        positions = guarded if named else ("inbound", "outbound", "gateway")
        yield Stream(22, f"authority {name}", outcome, head=usual(authority=authority), positions=positions)  # type: ignore[arg-type]
    same = Passed("/x", [has("host", HOST.decode())])
    differing: Outcome = Either([same, Blocked((400,)), Reset()])
    for name, fields in {
        "host in another case and secret": [(b"host", b"SECRET.example")],
        "host with user": [(b"host", b"x@secret.example")],
        "host empty": [(b"host", b"")],
        "host with a port": [(b"host", HOST + b":1")],
        "host list": [(b"host", HOST + b", secret.example")],
    }.items():
        yield Stream(22, name, differing, fields=fields)
    yield Stream(9, "empty host only", Refusal, head=[*usual()[:3], (b"host", b"")])
    two = [*usual()[:3], (b"host", HOST), (b"host", b"secret.example")]
    yield Stream(9, "two hosts only", Either([Refusal, same]), head=two)


def lengths() -> Iterator[Stream]:
    """Rows 3, 17 and 23."""
    for value in (
        b"3 3",
        b"3,4",
        b"+0",
        b"-0",
        b"3\t",
        b"0x0",
        b"1e0",
        b"3.0",
        b"\xd9\xa3",
        b"99999999999999999999",
        b"3;",
        b"NaN",
    ):
        fields = [(b"content-length", value)]
        yield Stream(3, slug(value.decode("latin-1")), Reset(), method=b"POST", fields=fields, data=(b"abc",))
    equal = [(b"content-length", b"3"), (b"content-length", b"3")]
    yield Stream(
        3,
        "repeated",
        Either([Reset(), Passed("/x", [sent(b"abc")])]),
        method=b"POST",
        fields=equal,
        data=(b"abc",),
    )
    for name, length, data in (
        ("more by a whole request", b"3", (b"abc", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("less in many frames", b"9", (b"a", b"b", b"", b"c")),
        ("huge", b"9223372036854775807", (b"abc",)),
        ("without data", b"1", ()),
    ):
        early: Outcome = (
            Either([Reset(begun=True), Passed("/x", [sent(b"abc")])]) if length == b"3" else Reset(begun=True)
        )
        yield Stream(23, name, early, method=b"POST", fields=[(b"content-length", length)], data=data)
    get = [(b"content-length", b"3")]
    yield Stream(23, "GET without its body", Reset(begun=True), fields=get)
    for name, value in {
        b"transfer-encoding": b"chunked", b"connection": b"close", b":status": b"200", b":method": b"GET",
        b"te": b"gzip",
        b"upgrade": b"h2c", b"X-Capital": b"y", b"": b"y", b"a b": b"y",
    }.items():  # fmt: skip
        yield Stream(
            17,
            f"trailer {slug(name.decode())}",
            Reset(begun=True),
            method=b"POST",
            data=(b"abc",),
            trailers=[(name, value)],
        )
    for name, value in {
        b"cookie": b"a=b",
        b"x-forwarded-for": b"10.0.0.1",
        b"x-role": b"ok",
        b"x-request-id": b"1",
    }.items():
        checks = [has("host", HOST.decode()), sent(b"abc")]
        dropped: Outcome = Either([Passed("/x", checks), Reset(begun=True)])
        yield Stream(
            17, f"trailer {name.decode()}", dropped, method=b"POST", data=(b"abc",), trailers=[(name, value)]
        )


def limits() -> Iterator[Stream]:
    """Rows 11, 18 and 26."""
    large: Outcome = Either([Blocked((400, 414, 431)), Reset()])
    yield Stream(11, "a long name", large, fields=[(b"x" * 65_536, b"y")])
    yield Stream(11, "a long method", large, method=b"G" * 70_000)
    yield Stream(11, "a long authority", large, head=usual(authority=b"h" * 70_000))
    yield Stream(
        11,
        "long trailers",
        Either([large, Reset(begun=True)]),
        method=b"POST",
        data=(b"x",),
        trailers=[(b"x", b"y" * 70_000)],
    )
    many = [(b"x-%d" % n, b"1") for n in range(10_000)]
    yield Stream(
        11, "many trailers", Either([large, Reset(begun=True)]), method=b"POST", data=(b"x",), trailers=many
    )
    yield Stream(26, "a crumb of 64 KiB", large, fields=[(b"cookie", b"v" * 65_536)])
    yield Stream(26, "empty crumbs", large, fields=[(b"cookie", b"")] * 20_000)
    for method in (b"DELETE ", b"DELETE\0", b"D\xc3\x89LETE", b"DELETE,GET", b"PRI", b"G\xffT"):
        yield Stream(
            18, slug(method.decode("latin-1")), Either([Reset(), Blocked((400, 403))]), method=method
        )


STREAMS = [*pseudo(), *bytes_for_h1(), *authorities(), *lengths(), *limits()]
