"""Rows 28 and 63 as data: clients that take their time, each with what it says first and what it goes on dripping."""

from __future__ import annotations

import itertools
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from attack import gateway
from attack.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    WINDOW_UPDATE,
    Session,
    block,
    frame,
    setting,
)
from attack.positions import LISTENERS, Arena, managers
from attack.rows_h2 import usual
from attack.wire import CLOSED, OPEN, PATIENCE_S, RESET, SILENT, Line
from harness.proxies import connected

SLOW = "/slow"
"""Paths of requests that must never be complete; `/large` is answered with more than anybody's buffers hold."""

MOMENT_S = 0.001
"""How long each client listens in its turn."""

NO_ERROR = 0
"""An HTTP/2 error code; and the number of a setting, and the largest window."""
INITIAL_WINDOW = 4
LARGEST_WINDOW = 0x7FFFFFFF


def hasten(bootstrap: dict[str, Any], unit: int = 1) -> None:
    """Sets every time-out to some units, in seconds."""
    for manager in managers(bootstrap):
        common = manager.setdefault("common_http_protocol_options", {})
        common |= {"idle_timeout": f"{2 * unit}s", "max_stream_duration": f"{3 * unit}s"}
        manager |= {
            "request_headers_timeout": f"{unit}s",
            "stream_idle_timeout": f"{unit}s",
            "request_timeout": f"{2 * unit}s",
            "drain_timeout": "0.1s",
        }
    for listener in bootstrap["static_resources"]["listeners"]:
        listener["listener_filters_timeout"] = f"{2 * unit}s"
        for chain in listener["filter_chains"]:
            chain["transport_socket_connect_timeout"] = f"{2 * unit}s"


class Client(Protocol):
    """A slow client at its work."""

    @property
    def line(self) -> Line: ...

    def turn(self) -> bool:
        """Drips and listens for a moment; True once the proxy has ended it."""
        ...

    def faults(self) -> Iterable[str]:
        """What is wrong with how it was ended."""
        ...


def _listen(line: Line) -> bool:
    """Reads what has come; True when the connection is over."""
    while line.more(time.monotonic() + MOMENT_S):
        pass
    if line.fate == SILENT:
        line.fate = OPEN
    return line.fate in {CLOSED, RESET}


@dataclass(slots=True)
class Dripping:
    """Plain bytes: over when the connection ends, after at most one of these answers, which says one of the texts."""

    line: Line
    drip: Iterator[bytes]
    statuses: tuple[int, ...]
    texts: tuple[bytes, ...] = (b"",)

    def turn(self) -> bool:
        """Sends the next drop."""
        self.line.send(next(self.drip, b""))
        return _listen(self.line)

    def faults(self) -> Iterable[str]:
        """An answer that is none of a time-out."""
        found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", self.line.kept)]
        if len(found) > 1 or not set(found) <= set(self.statuses):
            yield f"answered {found}, not one of {list(self.statuses)}"
        if not any(text in self.line.kept for text in self.texts):
            yield f"none of {self.texts} is in {self.line.kept!r}"


@dataclass(slots=True)
class Streaming:
    """One HTTP/2 stream, or the connection itself (0): over when it is reset or answered with a time-out."""

    session: Session
    stream: int
    drip: Iterator[bytes]
    texts: tuple[bytes, ...] = (b"",)

    @property
    def line(self) -> Line:
        """The connection."""
        return self.session.line

    def turn(self) -> bool:
        """Sends the next drop."""
        self.line.send(next(self.drip, b""))
        while self.session.step(time.monotonic() + MOMENT_S):
            pass
        if self.line.fate == SILENT:
            self.line.fate = OPEN
        ended = self.session.goaway is not None or self.line.fate in {CLOSED, RESET}
        return ended or (self.stream > 0 and self.session.streams[self.stream].over)

    def faults(self) -> Iterable[str]:
        """A stream that was served to its end."""
        found = self.session.streams.get(self.stream)
        if found is None:
            return
        if found.ended and found.reset is None and found.status not in {408, 504}:
            yield f"answered {found.status}"
        if not any(text in found.body for text in self.texts):
            yield f"none of {self.texts} is in {found.body!r}"


class Announcing(Streaming):
    """The same with a head that does not end: over before the whole connection counts as idle."""

    def faults(self) -> Iterable[str]:
        """It was ended for another reason."""
        if self.session.goaway == NO_ERROR:
            yield "ended as an idle connection"
        yield from super().faults()


@dataclass(slots=True)
class Unread:
    """A client that does not read its answer: over when the proxy has given up the upstream's, too."""

    line: Line
    gone: Callable[[], bool]

    def turn(self) -> bool:
        """Does not even listen."""
        return self.gone()

    def faults(self) -> Iterable[str]:
        """Nothing was heard."""
        return ()


@dataclass(frozen=True, slots=True)
class Slow:
    """How a slow client begins; `envoy_bears` says why real Envoy does not end it in time."""

    name: str
    begin: Callable[[Arena], Client]
    envoy_bears: str = ""


def _plain(
    name: str,
    opening: bytes,
    drip: Iterable[bytes] = (),
    statuses: tuple[int, ...] = (408,),
    texts: tuple[bytes, ...] = (b"",),
) -> Slow:
    def begin(arena: Arena) -> Client:
        line = arena.connect()
        line.send(opening.replace(b"%HOST%", arena.host.encode()))
        return Dripping(line, iter(drip), statuses, texts)

    return Slow(name, begin)


OVERDUE = (b"request timeout", b"stream timeout")
"""Said of a request that is not there whole in time, though it goes on coming; the other where it drips too slowly even
for that. What is not said is how long a stream may take.
"""


def _post(path: str, framing: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: %HOST%\r\n".encode() + framing + b"\r\n\r\n"


def _unread(arena: Arena) -> Client:
    path = "/large-1"
    line = arena.connect()
    line.send(f"GET {path} HTTP/1.1\r\nHost: {arena.host}\r\n\r\n".encode())
    return Unread(line, lambda: path in arena.application.cut)


CHUNKED = b"Transfer-Encoding: chunked"

HTTP_1 = [
    _plain("nothing", b"", statuses=()),
    _plain("half a line", b"GET /slow HT"),
    _plain("half a head", b"GET /slow HTTP/1.1\r\nHost: %HOST%\r\n"),
    _plain("a head by the byte", b"GET /slow HTTP/1.1\r\nHost: %HOST%\r\nX: ", itertools.repeat(b"y")),
    _plain("a body that stops", _post(SLOW, b"Content-Length: 100") + b"abc"),
    _plain(
        "a body by the byte", _post(SLOW, b"Content-Length: 100000"), itertools.repeat(b"y"), texts=OVERDUE
    ),
    _plain("chunks by the byte", _post(SLOW, CHUNKED), itertools.repeat(b"1\r\ny\r\n"), texts=OVERDUE),
    _plain("half a chunk's size", _post(SLOW, CHUNKED) + b"1"),
    _plain("nothing after an answer", b"GET /x HTTP/1.1\r\nHost: %HOST%\r\n\r\n", statuses=(200,)),
    _plain("half a preface", PREFACE[:15], statuses=(400, 408)),
    Slow("an answer that is not read", _unread),
]


@dataclass(frozen=True, slots=True)
class _Begun:
    """An HTTP/2 connection with the window that the client gives each stream."""

    arena: Arena
    window: int = 65_535
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        line = self.arena.connect("h2")
        session = Session(line, setting((INITIAL_WINDOW, self.window)), refill=False)
        object.__setattr__(self, "session", session)

    def head(self, method: bytes, path: bytes) -> bytes:
        return block(usual(method, path, self.arena.host.encode()))

    def ask(self, path: str, drip: Iterable[bytes] = ()) -> Client:
        """A request whose answer the windows hold back."""
        stream = self.session.new_stream()
        payload = self.head(b"GET", path.encode())
        self.session.line.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, payload))
        return Streaming(self.session, stream, iter(drip))

    def post(self, drip: Iterable[bytes] = (), texts: tuple[bytes, ...] = (b"",)) -> Client:
        """A request whose body takes its time."""
        stream = self.session.new_stream()
        self.session.line.send(frame(HEADERS, END_HEADERS, stream, self.head(b"POST", SLOW.encode())))
        self.session.line.send(frame(DATA, 0, stream, b"abc"))
        return Streaming(self.session, stream, iter(drip), texts)

    def part(self, sent: Callable[[bytes], bytes]) -> Client:
        """Only what is made of a head's block."""
        self.session.line.send(sent(self.head(b"GET", SLOW.encode())))
        return Announcing(self.session, self.session.new_stream(), iter(()))


def _unread_frames(arena: Arena) -> Client:
    path = "/large-2"
    begun = _Begun(arena, LARGEST_WINDOW)
    more = (LARGEST_WINDOW - 65_535).to_bytes(4, "big")
    begun.session.line.send(frame(WINDOW_UPDATE, payload=more))
    client = begun.ask(path)
    return Unread(client.line, lambda: path in arena.application.cut)


def _half_a_preface(arena: Arena) -> Client:
    line = arena.connect("h2")
    line.send(PREFACE[:15])
    return Dripping(line, iter(()), (400, 408))


ONE_BYTE = frame(WINDOW_UPDATE, 0, 1, (1).to_bytes(4, "big"))

HTTP_2 = [
    Slow("half a preface", _half_a_preface),
    Slow("settings and nothing more", lambda arena: Streaming(_Begun(arena).session, 0, iter(()))),
    Slow("a head without its end", lambda arena: _Begun(arena).part(lambda head: frame(HEADERS, 0, 1, head))),
    Slow(
        "half a head's frame",
        lambda arena: _Begun(arena).part(lambda head: frame(HEADERS, END_HEADERS | END_STREAM, 1, head)[:20]),
    ),
    Slow("a body that stops", lambda arena: _Begun(arena).post()),
    Slow(
        "28 a body in frames of one byte",
        lambda arena: _Begun(arena).post(itertools.repeat(frame(DATA, 0, 1, b"y")), OVERDUE),
    ),
    Slow("28 a window of zero", lambda arena: _Begun(arena, 0).ask("/x")),
    Slow("28 a window that is used up", lambda arena: _Begun(arena).ask("/large-3")),
    Slow(
        "28 a window by the byte",
        lambda arena: _Begun(arena, 0).ask("/large-4", itertools.repeat(ONE_BYTE)),
    ),
    Slow("an answer that is not read", _unread_frames),
]


def _hello(arena: Arena) -> bytes:
    """A ClientHello that the position's TLS listener would go on with."""
    came, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    inbound = arena.position == "inbound"
    context = arena.identities.client("default", "attacker") if inbound else ssl.create_default_context()
    handshake = context.wrap_bio(came, out, server_hostname=None if inbound else gateway.HOST)
    try:
        handshake.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError("a handshake by itself")


def _secure(name: str, opening: Callable[[bytes], bytes], drip: Callable[[bytes], Iterable[bytes]]) -> Slow:
    def begin(arena: Arena) -> Client:
        listener = gateway.SECURE if arena.position == "gateway" else LISTENERS[arena.position]
        line, hello = Line(connected(arena.ports[listener], PATIENCE_S)), _hello(arena)
        line.send(opening(hello))
        return Dripping(line, iter(drip(hello)), ())

    return Slow(name, begin)


HANDSHAKES = [
    _secure("no hello", lambda _: b"", lambda _: ()),
    _secure("half a hello", lambda hello: hello[: len(hello) // 2], lambda _: ()),
    _secure("a hello by the byte", lambda _: b"", lambda hello: (bytes([byte]) for byte in hello)),
    _secure("a handshake that stops", lambda hello: hello, lambda _: ()),
]
"""Where there is TLS: not on an outbound listener."""
