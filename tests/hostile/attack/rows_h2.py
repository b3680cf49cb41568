"""Rows 17–23 and, over HTTP/2, 10–39: heads, bodies and trailers on one stream; the connection must live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attack import rows_policy
from attack.frames import Session, heard
from attack.outcome import Blocked, Either, Outcome, Passed, Recording, absent, has, of_the_attack, sent
from attack.positions import Arena
from attack.table import HOST, Attack, Fields, Stream, slug
from attack.wire import Heard

RST = "RST"


@dataclass(frozen=True, slots=True)
class Reset:
    """A stream error or, as RFC 9113 §8.1.1 allows, an answer 400 before it; nothing complete goes upstream.

    `begun`: the head may have gone upstream before the fault could be seen; the request must not be complete there.
    """

    begun: bool = False
    expected: int = 1

    def faults(self, heard: Heard, received: Recording, host: str) -> Iterable[str]:
        if heard.statuses not in ([], [400]):
            yield f"answered {heard.statuses}"
        reached = of_the_attack(received)
        if any(each.complete for each in reached):
            yield f"the application got {[(each.method, each.path, each.body[:80]) for each in reached]}"
        elif reached and not self.begun:
            yield f"reached the application: {[(each.method, each.path) for each in reached]}"


def usual(method: bytes = b"GET", path: bytes = b"/x", authority: bytes = HOST) -> Fields:
    """The pseudo-fields of a good request."""
    return [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", authority)]


def pseudo() -> Iterator[Stream]:
    """Row 19, and what row 15 is over HTTP/2."""
    good = usual()
    for name, _ in good:
        plain = name.decode()[1:]
        value = dict(good)[name]
        yield Stream(19, f"repeated {plain}", Reset(), head=[*good, (name, value)])
        yield Stream(
            19,
            f"late {plain}",
            Reset(),
            head=[*(f for f in good if f[0] != name), (b"x", b"y"), (name, value)],
        )
        if plain != "authority":
            yield Stream(19, f"no {plain}", Reset(), head=[f for f in good if f[0] != name])
        yield Stream(19, f"empty {plain}", Reset(), head=[(n, b"" if n == name else v) for n, v in good])
    yield Stream(19, "unknown", Reset(), head=[*good, (b":unknown", b"x")])
    yield Stream(19, "status", Reset(), head=[*good, (b":status", b"200")])
    yield Stream(19, "protocol without CONNECT", Reset(), head=[*good, (b":protocol", b"websocket")])
    yield Stream(19, "no authority and no host", Reset(), head=good[:3])
    yield Stream(
        19, "in trailers", Reset(begun=True), method=b"POST", data=(b"x",), trailers=[(b":path", b"/y")]
    )
    yield Stream(19, "path in absolute form", Reset(), path=b"http://secret.example/x")
    yield Stream(19, "path without slash", Reset(), path=b"x")
    yield Stream(19, "asterisk for GET", Reset(), path=b"*")
    yield Stream(15, "CONNECT with path", Refusal, head=usual(b"CONNECT"))
    connect = [(b":method", b"CONNECT"), (b":authority", HOST + b":80")]
    yield Stream(15, "CONNECT", Refusal, head=connect, data=(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",))
    yield Stream(15, "CONNECT without authority", Refusal, head=[(b":method", b"CONNECT")])
    extended = [*usual(b"CONNECT"), (b":protocol", b"connect-udp")]
    yield Stream(15, "CONNECT for an unknown protocol", Refusal, head=extended)


Refusal: Outcome = Either([Blocked((400, 403, 404, 405, 501)), Reset()])


def bytes_for_h1() -> Iterator[Stream]:
    """Rows 20 and 21."""
    for name, byte in {
        "CR": b"\r",
        "LF": b"\n",
        "CRLF": b"\r\n",
        "NUL": b"\0",
        "space": b" ",
        "tab": b"\t",
    }.items():
        smuggled = byte + b"HTTP/1.1" + byte + b"x: y"
        yield Stream(20, f"{name} in the path", Reset(), path=b"/x" + smuggled)
        yield Stream(20, f"{name} in the method", Reset(), method=b"GET" + byte + b"/y")
        yield Stream(20, f"{name} in the authority", Reset(), head=usual(authority=HOST + smuggled))
        yield Stream(20, f"{name} in a name", Reset(), fields=[(b"x" + byte + b"y", b"z")])
        if byte not in {b" ", b"\t"}:
            yield Stream(20, f"{name} in a value", Reset(), fields=[(b"x", b"a" + smuggled)])
            trailers = [(b"x", b"a" + byte + b"b")]
            yield Stream(
                20, f"{name} in trailers", Reset(begun=True), method=b"POST", data=(b"x",), trailers=trailers
            )
    for byte in (b"\x7f", b"\x01", b"#"):
        yield Stream(20, f"{byte[0]:x} in the path", Reset(), path=b"/x" + byte)
    yield Stream(20, "colon in a name", Reset(), fields=[(b"x: y\r\nz", b"w")])
    yield Stream(20, "empty name", Reset(), fields=[(b"", b"x")])
    for name in (b"X-Upper", b"xY"):
        yield Stream(21, f"name {name.decode()}", Reset(), fields=[(name, b"y")])
    for name, value in {
        b"connection": b"close", b"transfer-encoding": b"chunked", b"keep-alive": b"5", b"upgrade": b"h2c",
        b"proxy-connection": b"keep-alive", b"te": b"gzip",
    }.items():  # fmt: skip
        yield Stream(21, name.decode(), Reset(), fields=[(name, value)])
    trailers = [(b"X-Upper", b"y")]
    yield Stream(21, "name in trailers", Reset(begun=True), method=b"POST", data=(b"x",), trailers=trailers)
    yield Stream(21, "TE trailers", Passed("/x"), fields=[(b"te", b"trailers")])


def authorities() -> Iterator[Stream]:
    """Row 22."""
    same = Passed("/x", [has("host", HOST.decode())])
    other = Either([same, Blocked((400,)), Reset()])
    yield Stream(22, "host differs", other, fields=[(b"host", b"secret.example")])
    yield Stream(22, "host equal", same, fields=[(b"host", HOST)])
    yield Stream(
        22,
        "two hosts",
        Either([same, Blocked((400,)), Reset()]),
        fields=[(b"host", HOST), (b"host", b"other")],
    )
    only = Either([Blocked((400, 403, 404, 502)), Reset()])
    yield Stream(22, "host only", only, head=[*usual()[:3], (b"host", b"secret.example")])
    yield Stream(
        22,
        "authority is the bad one",
        only,
        head=usual(authority=b"secret.example"),
        fields=[(b"host", HOST)],
    )
    yield Stream(22, "user information", only, head=usual(authority=b"user@" + HOST))


def lengths() -> Iterator[Stream]:
    """Rows 23 and 17."""
    for name, length, data in [
        ("more", b"3", (b"abcd",)),
        ("less", b"3", (b"ab",)),
        ("none", b"3", ()),
        ("zero", b"0", (b"x",)),
    ]:
        fields = [(b"content-length", length)]
        yield Stream(23, name, Reset(begun=True), method=b"POST", fields=fields, data=data)
    # When the frame too many comes, what was declared may have been served.
    more = Either([Reset(begun=True), Passed("/x", [sent(b"abc")])])
    fields = [(b"content-length", b"3")]
    yield Stream(23, "more in a second frame", more, method=b"POST", fields=fields, data=(b"abc", b"d"))
    for value in (b"-3", b"+3", b"0x3", b"3, 3", b"", b"18446744073709551616"):
        fields = [(b"content-length", value)]
        yield Stream(23, slug(value.decode()), Reset(), method=b"POST", fields=fields, data=(b"abc",))
    twice = [(b"content-length", b"3"), (b"content-length", b"4")]
    yield Stream(23, "two lengths", Reset(), method=b"POST", fields=twice, data=(b"abc",))
    short = [(b"content-length", b"9")]
    yield Stream(
        23,
        "less before trailers",
        Reset(begun=True),
        method=b"POST",
        fields=short,
        data=(b"abc",),
        trailers=[(b"x", b"y")],
    )
    trailers = [(b"host", b"evil"), (b"authorization", b"x"), (b"content-length", b"9")]
    checks = [has("host", HOST.decode()), absent("authorization", "content-length")]
    dropped = Either([Passed("/x", checks), Reset(begun=True)])
    yield Stream(17, "trailers", dropped, method=b"POST", data=(b"abc",), trailers=trailers)


def limits() -> Iterator[Stream]:
    """Rows 11 and 26: what is counted is what a block decodes to."""
    large = Either([Blocked((431,)), Reset()])
    yield Stream(11, "large field", large, fields=[(b"x", b"y" * 65536)])
    yield Stream(11, "many fields", large, fields=[(b"x-%d" % n, b"1") for n in range(101)])
    long = Either([Blocked((414, 431)), Reset()])
    yield Stream(11, "long path", long, path=b"/" + b"x" * 70_000)
    yield Stream(
        26, "cookie crumbs", large, fields=[(b"cookie", b"c%d=" % n + b"v" * 30) for n in range(4000)]
    )
    crumbs = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
    yield Stream(26, "two crumbs", Passed("/x", [has("cookie", "a=1; b=2")]), fields=crumbs)


def methods() -> Iterator[Stream]:
    """Row 18."""
    for method in (b"delete", b"DeLeTe", b"get"):
        yield Stream(18, method.decode(), Either([Reset(), Blocked((400, 403))]), method=method)
    yield Stream(18, "plain", Blocked((403,)), method=b"DELETE")


def translated(attacks: Iterable[Attack]) -> Iterator[Stream]:
    """The rows of policies over HTTP/2: the same fields and paths."""
    for attack in attacks:
        first, *lines = attack.parts[0].removesuffix(b"\r\n\r\n").split(b"\r\n")
        method, target, _ = first.split(b" ", 2)
        if target.startswith(b"http"):
            continue
        fields = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
        ]
        authority = dict(fields)[b"host"]
        others = [each for each in fields if each[0] != b"host"]
        outcome: Outcome = attack.outcome
        if outcome.expected == 0 or isinstance(outcome, Either):
            outcome = Either([outcome, Blocked((400, 403, 404, 307)), Reset()])
        head = [*usual(method, target, authority), *others]
        yield Stream(attack.row, attack.name, outcome, head=head, positions=attack.positions)


STREAMS = [
    *pseudo(), *bytes_for_h1(), *authorities(), *lengths(), *limits(), *methods(),
    *translated(rows_policy.ATTACKS),
]  # fmt: skip


def send(arena: Arena, attack: Stream, patience: float) -> tuple[Heard, list[str]]:
    """What is heard on the attack's stream, and what is wrong with its connection: it must go on."""
    host = arena.host.encode()

    def filled(fields: Fields) -> Fields:
        return [(name, value.replace(HOST, host)) for name, value in fields]

    head = usual(attack.method, attack.path) if attack.head is None else attack.head
    with arena.connect("h2", patience) as line:
        session = Session(line)
        trailers = None if attack.trailers is None else filled(attack.trailers)
        stream = session.request(filled([*head, *attack.fields]), attack.data, trailers)
        session.until(stream)
        found = heard(session, stream)
        if session.goaway is not None or not session.ping():
            return found, [f"the connection is {line.fate}, GOAWAY {session.goaway}"]
        good = session.request(filled(usual(path=b"/good-too")))
        session.until(good)
        status = session.streams[good].status
        return found, [] if status == 200 else [f"the next request on the connection is answered {status}"]
