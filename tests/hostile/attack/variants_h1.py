"""Rows 1–18 over HTTP/1.1 once more, in the forms that published vulnerabilities of proxies and servers took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attack.outcome import Blocked, Either, Outcome, Passed, Refused, absent, has, lacks, once, sent
from attack.rows_h1 import CHUNKED, ONE_CHUNK, SMUGGLED, post, request
from attack.table import HOST, Attack, slug
from attack.upstream import Recording
from attack.wire import Heard

CODED = Refused((400, 501))
KEPT_OUT: Outcome = Either([Blocked((400, 403, 404, 502)), Refused()])


def framing() -> Iterator[Attack]:
    """Rows 1 to 4: two lengths, codings that only one reader sees, numbers that readers read differently."""
    for name, fields in {
        "zero": b"Content-Length: 0\r\n" + CHUNKED,
        "odd case": b"CONTENT-LENGTH: 4\r\ntransfer-encoding: CHUNKED\r\n",
        "apart": CHUNKED + b"X: y\r\nContent-Length: 4\r\n",
        "length twice": b"Content-Length: 4\r\n" + CHUNKED + b"Content-Length: 4\r\n",
        "coding unknown": b"Content-Length: 4\r\nTransfer-Encoding: x\r\n",
        "coding empty": b"Content-Length: 4\r\nTransfer-Encoding:\r\n",
        "nominated": b"Connection: transfer-encoding\r\nContent-Length: 4\r\n" + CHUNKED,
        "length nominated": b"Connection: content-length\r\nContent-Length: 4\r\n" + CHUNKED,
    }.items():
        yield Attack(1, name, (post(fields, ONE_CHUNK + SMUGGLED),), CODED)
    get = request(b"Content-Length: 5\r\n" + CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)
    yield Attack(1, "GET", (get,), CODED)
    for name, line in {
        "tab before": b"Transfer-Encoding:\tchunked",
        "blanks before": b"Transfer-Encoding:  chunked",
        "tab behind": b"Transfer-Encoding: chunked\t",
        "blank behind": b"Transfer-Encoding: chunked ",
        "quoted": b"Transfer-Encoding: 'chunked'",
        "NUL behind": b"Transfer-Encoding: chunked\0",
        "form feed": b"Transfer-Encoding: \x0cchunked",
        "next line": b"Transfer-Encoding: \x85chunked",
        "next line behind": b"Transfer-Encoding: chunked\x85",
        "dotless": b"Transfer-Encoding: chunke\xc4\x91",
        "Kelvin": b"Transfer-Encoding: chun\xe2\x84\xaaed",
        "folded": b"Transfer-Encoding:\r\n chunked",
        "folded behind": b"Transfer-Encoding: chunked\r\n ",
        "underscore": b"Transfer_Encoding: chunked\r\nTransfer-Encoding: x",
        "colon": b"Transfer-Encoding:: chunked",
        "compress": b"Transfer-Encoding: compress",
        "trailers": b"Transfer-Encoding: trailers",
        "chunked then identity": b"Transfer-Encoding: chunked, identity",
        "identity then chunked": b"Transfer-Encoding: identity, chunked",
        "two equal lines": b"Transfer-Encoding: chunked\r\nX: y\r\ntransfer-encoding: chunked",
        "half of it": b"Transfer-Encoding: chunk",
        "extended": b"Transfer-Encoding: chunkedd",
    }.items():
        yield Attack(2, name, (post(line + b"\r\n", ONE_CHUNK),), CODED)
    for length in (
        b"3\t4", b"3\x0b", b"3\x00", b"3.0", b"3_0", b"--3", b"+-3", b"0b11", b"3L", b"\x0c3", b"'3'", b"3, ",
        b",3", b"3;3",
        b"\xd9\xa3", b"9223372036854775808", b"99999999999999999999999999999999999999",
        b"18446744073709551619", b"-0", b"+0", b"0x",
        b"NaN",
        b"3 chunked", b"%33",
    ):  # fmt: skip
        fields = b"Content-Length: " + length + b"\r\n"
        yield Attack(3, slug(length.decode("latin-1")), (post(fields, b"abc"),), Refused())
    for name, fields in {
        "repeated in another case": b"Content-Length: 3\r\ncontent-length: 3\r\n",
        "repeated apart": b"Content-Length: 3\r\nX: y\r\nContent-Length: 4\r\n",
        "repeated and zero": b"Content-Length: 3\r\nContent-Length: 0\r\n",
        "repeated and empty": b"Content-Length: 3\r\nContent-Length:\r\n",
        "three times": b"Content-Length: 3\r\n" * 3,
        "folded": b"Content-Length: 3\r\n 0\r\n",
    }.items():
        yield Attack(3, name, (post(fields, b"abc"),), Refused())
    leading: Outcome = Either([Passed("/x", [sent(b"abc")]), Refused()])
    yield Attack(3, "leading zeros", (post(b"Content-Length: 0003\r\n", b"abc"),), leading)
    old = post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + SMUGGLED, b"POST /x HTTP/1.0")
    yield Attack(4, "with a length", (old,), Refused((400, 426)))
    coded = post(b"Transfer-Encoding: identity\r\n", b"", b"POST /x HTTP/1.0")
    yield Attack(4, "identity", (coded,), Refused((400, 426)))
    got = request(CHUNKED, line=b"GET /x HTTP/1.0", body=ONE_CHUNK)
    yield Attack(4, "GET", (got,), Refused((400, 426)))


def chunks() -> Iterator[Attack]:
    """Row 6: sizes, extensions, ends of lines and trailers."""
    bad = {
        "LF behind the size": b"1\n\nx\r\n0\r\n\r\n",
        "CR CR LF": b"1\r\r\nx\r\n0\r\n\r\n",
        "LF CR": b"1\n\rx\r\n0\r\n\r\n",
        "tab behind": b"1\t\r\nx\r\n0\r\n\r\n",
        "vertical tab": b"\x0b1\r\nx\r\n0\r\n\r\n",
        "negative": b"-1\r\nx\r\n0\r\n\r\n",
        "no digits": b";a=b\r\nx\r\n0\r\n\r\n",
        "not hexadecimal": b"g\r\nx\r\n0\r\n\r\n",
        "octothorpe": b"1#\r\nx\r\n0\r\n\r\n",
        "quoted": b'"1"\r\nx\r\n0\r\n\r\n',
        "comma": b"1,1\r\nx\r\n0\r\n\r\n",
        "64 bits": b"ffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "63 bits and a sign": b"8000000000000000\r\nx\r\n0\r\n\r\n",
        "full width digit": b"\xef\xbc\x91\r\nx\r\n0\r\n\r\n",
        "CR in an extension": b"1;a\rb\r\nx\r\n0\r\n\r\n",
        "LF in a quoted extension": b'1;a="\n"\r\nx\r\n0\r\n\r\n',
        "LF ends an extension": b"1;\nx\r\n0\r\n\r\n",
        "control in an extension": b"1;a=\x01\r\nx\r\n0\r\n\r\n",
        "LF behind the last size": b"1\r\nx\r\n0\n\r\n",
        "LF in the last line": b"1\r\nx\r\n0\r\n\n",
        "LF ends the last extension": b"1\r\nx\r\n0;a\n\r\n",
        "no end of the data": b"1\r\nx0\r\n\r\n",
        "CR only behind data": b"1\r\nx\r0\r\n\r\n",
        "two ends behind data": b"1\r\nx\r\n\r\n0\r\n\r\n",
        "zeros without end": b"0" * 20_000 + b"1\r\nx\r\n0\r\n\r\n",
        "folded trailer": b"1\r\nx\r\n0\r\nA: b\r\n c\r\n\r\n",
        "NUL in a trailer": b"1\r\nx\r\n0\r\nA: b\0\r\n\r\n",
        "space before a trailer's colon": b"1\r\nx\r\n0\r\nA : b\r\n\r\n",
        "huge trailer": b"1\r\nx\r\n0\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
        "many trailers": b"1\r\nx\r\n0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    }
    for name, body in bad.items():
        yield Attack(6, name, (post(CHUNKED, body),), Refused((400, 431)))
    served: Outcome = Either([Passed("/x", [sent(b"x")]), Refused()])
    for name, body in {
        "LF in quotes behind an escape": b'1;a="\\\r\nx\r\n0\r\n\r\n',
        "capital and leading zeros": b"0001\r\nx\r\n000\r\n\r\n",
        "extension without a name": b"1;\r\nx\r\n0\r\n\r\n",
        "quoted extension": b'1;a="b;c"\r\nx\r\n0;d\r\n\r\n',
    }.items():
        yield Attack(6, name, (post(CHUNKED, body),), served)
    behind = b"1\r\nx\r\n0\r\n\r\n" + SMUGGLED
    split = (post(CHUNKED, behind[:5]), behind[5:])
    yield Attack(6, "a request behind the body", split, BothServed())


@dataclass(frozen=True, slots=True)
class BothServed:
    """Two pipelined requests, the first with a body of one byte."""

    expected: int = 2

    def faults(self, heard: Heard, received: Recording, host: str) -> Iterable[str]:
        """Anything else."""
        reached = [(each.path, each.body) for each in received.requests if not each.path.startswith("/good")]
        if heard.statuses != [200, 200] or reached != [("/x", b"x"), ("/smuggled", b"")]:
            yield f"answered {heard.statuses}, the application got {reached}"


def line_ends() -> Iterator[Attack]:
    """Row 7."""
    end = b"\r\nHost: " + HOST
    lines = {
        "LF first": b"\nGET /x HTTP/1.1" + end + b"\r\n\r\n",
        "LF behind the start line": b"GET /x HTTP/1.1\nHost: " + HOST + b"\r\n\r\n",
        "LF in the target": b"GET /x\ny HTTP/1.1" + end + b"\r\n\r\n",
        "LF in the method": b"GE\nT /x HTTP/1.1" + end + b"\r\n\r\n",
        "LF in a name": b"GET /x HTTP/1.1" + end + b"\r\nX\nY: z\r\n\r\n",
        "CR in a name": b"GET /x HTTP/1.1" + end + b"\r\nX\rY: z\r\n\r\n",
        "CR before the colon": b"GET /x HTTP/1.1" + end + b"\r\nX\r: z\r\n\r\n",
        "CR first": b"\rGET /x HTTP/1.1" + end + b"\r\n\r\n",
        "CR in the version": b"GET /x HTTP/1\r.1" + end + b"\r\n\r\n",
        "CR and a request in a value": b"GET /x HTTP/1.1" + end + b"\r\nX: a\rGET /y HTTP/1.1\r\n\r\n",
        "LF at the end": b"GET /x HTTP/1.1" + end + b"\r\n\n",
        "CR LF CR at the end": b"GET /x HTTP/1.1" + end + b"\r\n\rX: y\r\n\r\n",
        "LF in the Host": b"GET /x HTTP/1.1\r\nHost: " + HOST + b"\nX: y\r\n\r\n",
        "LF before a length": b"POST /x HTTP/1.1" + end + b"\r\nX: y\nContent-Length: 3\r\n\r\nabc",
    }
    for name, text in lines.items():
        yield Attack(7, name, (text,), Refused())


def fields_and_start_lines() -> Iterator[Attack]:
    """Row 8."""
    fields = {
        "space in a name": b"X Y: z\r\n",
        "vertical tab before the colon": b"X\x0b: z\r\n",
        "no-break space before the colon": b"Content-Length\xa0: 3\r\n",
        "NUL before the colon": b"Content-Length\0: 3\r\n",
        "NUL first": b"\0X: y\r\n",
        "tab first": b"\tX: y\r\n",
        "coding before the colon": b"Transfer-Encoding : chunked\r\n",
        "bell in a value": b"X: a\x07b\r\n",
        "vertical tab in a value": b"X: a\x0bb\r\n",
        "form feed in a value": b"X: a\x0cb\r\n",
        "escape in a value": b"X: a\x1bb\r\n",
        "slash in a name": b"X/Y: z\r\n",
        "quoted name": b'"X": z\r\n',
        "at in a name": b"X@Y: z\r\n",
        "equals for the colon": b"X= y\r\n",
        "folded length": b"X: y\r\n Content-Length: 3\r\n",
        "fold of nothing": b"X: y\r\n \r\n",
        "pseudo-field": b":authority: secret.example\r\n",
        "method again": b"GET /y HTTP/1.1\r\n",
    }
    for name, text in fields.items():
        yield Attack(8, name, (request(text),), Refused())
    for name, line in {
        "NUL in the target": b"GET /x\0y HTTP/1.1",
        "NUL in the method": b"G\0T /x HTTP/1.1",
        "tab between the words": b"GET\t/x\tHTTP/1.1",
        "two spaces": b"GET  /x HTTP/1.1",
        "two spaces before the version": b"GET /x  HTTP/1.1",
        "a space in the target": b"GET /x y HTTP/1.1",
        "a space at the end": b"GET /x HTTP/1.1 ",
        "no version": b"GET /x",
        "HTTP/0.9": b"GET /x HTTP/0.9",
        "small version": b"GET /x http/1.1",
        "HTTP/1.10": b"GET /x HTTP/1.10",
        "another protocol": b"GET /x ICE/1.0",
        "no target": b"GET HTTP/1.1",
        "quoted method": b'"GET" /x HTTP/1.1',
    }.items():
        yield Attack(8, name, (request(line=line),), Refused((400, 426, 505)))
    for name, line in {
        "HTTP/2.0": b"GET /x HTTP/2.0",
        "HTTP/1.2": b"GET /x HTTP/1.2",
        "HTTP/3": b"GET /x HTTP/3",
    }.items():
        yield Attack(8, name, (request(line=line),), Refused((400, 426, 505)))


def hosts_and_limits() -> Iterator[Attack]:
    """Rows 9 and 11."""
    for name, host in {
        "two in another case": b"Host: " + HOST + b"\r\nHOST: other\r\n",
        "two apart": b"Host: " + HOST + b"\r\nX: y\r\nhost: " + HOST + b"\r\n",
        "blank": b"Host: \t \r\n",
        "list": b"Host: " + HOST + b", secret.example\r\n",
        "tab": b"Host: " + HOST + b"\tsecret.example\r\n",
        "fragment": b"Host: " + HOST + b"#@secret.example\r\n",
        "question": b"Host: " + HOST + b"?.secret.example\r\n",
        "backslash": b"Host: " + HOST + b"\\secret.example\r\n",
        "angle brackets": b"Host: <" + HOST + b">\r\n",
        "quoted": b'Host: "' + HOST + b'"\r\n',
        "scheme": b"Host: http://" + HOST + b"\r\n",
        "NUL": b"Host: " + HOST + b"\0\r\n",
        "bytes": b"Host: " + HOST + b"\xff\r\n",
        "space before the colon": b"Host : " + HOST + b"\r\n",
        "folded": b"Host:\r\n " + HOST + b"\r\n",
    }.items():
        yield Attack(9, name, (request(host=host),), Refused())
    none = request(line=b"GET http://" + HOST + b"/x HTTP/1.1", host=b"")
    yield Attack(9, "none beside an absolute target", (none,), Refused())
    for name, text in {
        "a long name": b"x" * 65_536 + b": y\r\n",
        "a long method": b"",
        "10,000 fields": b"".join(b"X-%d: 1\r\n" % n for n in range(10_000)),
        "101 equal fields": b"X: y\r\n" * 101,
    }.items():
        line = b"G" * 70_000 + b" /x HTTP/1.1" if name == "a long method" else b"GET /x HTTP/1.1"
        yield Attack(11, name, (request(text, line=line),), Refused((400, 414, 431)))
    query = request(line=b"GET /x?" + b"y" * 70_000 + b" HTTP/1.1")
    yield Attack(11, "a long query", (query,), Refused((414, 431)))
    absolute = request(line=b"GET http://" + b"h" * 70_000 + b"/ HTTP/1.1")
    yield Attack(11, "a long authority", (absolute,), Refused((414, 431)))
    yield Attack(11, "without end", (b"GET /x HTTP/1.1\r\nX: " + b"y" * 200_000,), Refused((431,)))


def targets() -> Iterator[Attack]:
    """Rows 10, 15 and 18."""
    own = Passed("/", [has("host", HOST.decode())])
    for name, target in {
        "no path": b"http://" + HOST,
        "https": b"https://" + HOST + b"/",
    }.items():
        outcome: Outcome = Either([own, KEPT_OUT])
        attack = request(line=b"GET " + target + b" HTTP/1.1", host=b"Host: secret.example\r\n")
        yield Attack(10, name, (attack,), outcome)
    query = request(line=b"GET http://" + HOST + b"?x=/../admin HTTP/1.1", host=b"Host: secret.example\r\n")
    yield Attack(10, "query without path", (query,), Either([Passed("/?x=/../admin"), KEPT_OUT]))
    for name, target in {
        "bad and https": b"https://secret.example/x",
        "backslash": b"http://" + HOST + b"\\@secret.example/x",
        "fragment": b"http://secret.example#" + HOST + b"/x",
        "no authority": b"http:///x",
        "three slashes": b"http:///secret.example/x",
        "one slash": b"http:/secret.example/x",
        "no slashes": b"http:secret.example/x",
        "another scheme": b"ftp://secret.example/x",
        "file": b"file:///etc/passwd",
        "space": b"http:// secret.example/x",
        "tab": b"http://secret.example\t/x",
        "encoded slash": b"http://secret.example%2f/x",
        "NUL": b"http://secret.example%00." + HOST + b"/x",
        "port": b"http://secret.example:80/x",
        "dot": b"http://secret.example./x",
        "user and password": b"http://" + HOST + b":80@secret.example/x",
        "two authorities": b"http://secret.example," + HOST + b"/x",
        "scheme relative": b"//secret.example/x",
        "without a scheme": b"secret.example/x",
        "only a word": b"x",
        "asterisk": b"*",
    }.items():
        attack = request(line=b"GET " + target + b" HTTP/1.1")
        # A path that begins with two slashes names no host: it is a path, of the Host that was said.
        relative = Either([Passed(None, [has("host", HOST.decode())]), KEPT_OUT, Blocked((307,))])
        yield Attack(10, name, (attack,), relative if name == "scheme relative" else KEPT_OUT)
    admin = request(line=b"GET http://" + HOST + b"/x/../admin HTTP/1.1")
    yield Attack(10, "dots in the path", (admin,), KEPT_OUT)
    for name, target in {
        "port zero": HOST + b":0", "large port": HOST + b":65536", "no host": b":80",
        "user": b"user@" + HOST + b":80",
        "with a path": HOST + b":80/x", "with a query": HOST + b":80?x", "two ports": HOST + b":80:80",
        "empty port": HOST + b":",
        "letters for a port": HOST + b":http", "signed port": HOST + b":+80",
        "https": b"https://" + HOST + b":443",
        "unclosed bracket": b"[::1:80",
    }.items():  # fmt: skip
        yield Attack(15, name, (request(line=b"CONNECT " + target + b" HTTP/1.1"),), Refused((400, 404)))
    for name, fields, body in (
        ("with a length", b"Content-Length: 5\r\n", b"hello"),
        ("with chunks", CHUNKED, ONE_CHUNK),
    ):
        attack = request(fields, line=b"CONNECT " + HOST + b":80 HTTP/1.1", body=body)
        yield Attack(15, name, (attack,), Refused((400, 404)))
    for method in (b"DELETE\x00", b"DELETE\x0b", b"DELETE,GET", b"GET,DELETE", b"DELETE;", b"DELETEX", b"D\xc3\x89LETE",
                   b"PRI", b"DELETE/", b"GET\r\nX:"):  # fmt: skip
        name = slug(method.decode("latin-1"))
        yield Attack(18, name, (request(line=method + b" /x HTTP/1.1"),), Refused())
    for name in (b"X-HTTP-Method", b"X-Method-Override", b":method"):
        passed: Outcome = Refused() if name == b":method" else Passed("/x")
        yield Attack(18, "override by " + slug(name.decode()), (request(name + b": DELETE\r\n"),), passed)


def hop_by_hop() -> Iterator[Attack]:
    """Rows 14, 16 and 17."""
    gone = absent("upgrade", "http2-settings", "connection")
    refused: Outcome = Either([Passed("/x", [gone]), Refused((400, 403))])
    settings = b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    for name, fields in {
        "h2c in capitals": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\n" + settings,
        "h2c not nominated": b"Upgrade: h2c\r\n" + settings,
        "h2c without settings": b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "h2c in the second line": b"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "h2c behind another": b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        "h2": b"Connection: Upgrade\r\nUpgrade: h2\r\n",
        "TLS": b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        "settings alone": b"Connection: HTTP2-Settings\r\n" + settings,
    }.items():
        yield Attack(14, name, (request(fields),), refused)
    for name, fields, check in (
        ("in capitals", b"CONNECTION: X-Identity\r\nX-IDENTITY: me\r\n", absent("x-identity")),
        ("between commas", b"Connection: ,, x-identity ,\r\nX-Identity: me\r\n", absent("x-identity")),
        ("behind a tab", b"Connection: close,\tx-identity\r\nX-Identity: me\r\n", absent("x-identity")),
        ("twice", b"Connection: x-identity\r\nX-Identity: 1\r\nX-Identity: 2\r\n", absent("x-identity")),
        ("itself", b"Connection: connection\r\n", absent("connection")),
        ("te", b"Connection: te\r\nTE: trailers, gzip\r\n", lacks("te", "gzip")),
        ("the request's id", b"Connection: x-request-id\r\nX-Request-Id: me\r\n", once("x-request-id")),
        ("proxy authorization", b"Proxy-Connection: x-identity\r\n", absent("proxy-connection")),
    ):  # fmt: skip
        outcome: Outcome = Either([Passed("/x", [check]), Refused((400, 403))])
        yield Attack(16, name, (request(fields),), outcome)
    first = b"1\r\nx\r\n0\r\n"
    for name, trailer in {
        "transfer-encoding": b"Transfer-Encoding: chunked",
        "cookie": b"Cookie: a=b",
        "connection": b"Connection: close",
        "forwarded": b"X-Forwarded-For: 10.0.0.1",
        "certificate": b"X-Forwarded-Client-Cert: URI=spiffe://x",
        "role": b"X-Role: ok",
        "Host in capitals": b"HOST: evil",
        "request id": b"X-Request-Id: 1",
        "upgrade": b"Upgrade: websocket",
        "te": b"TE: trailers",
        "expect": b"Expect: 100-continue",
    }.items():
        passed: Outcome = Either([Passed("/x", [sent(b"x"), has("host", HOST.decode())]), Refused()])
        yield Attack(17, name, (post(CHUNKED, first + trailer + b"\r\n\r\n"),), passed)


ATTACKS = [
    *framing(),
    *chunks(),
    *line_ends(),
    *fields_and_start_lines(),
    *hosts_and_limits(),
    *targets(),
    *hop_by_hop(),
]
