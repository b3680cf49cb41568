"""Rows 24–28: floods of frames end in GOAWAY after a bounded number, in bounded memory, while a bystander is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from attack.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Session,
    block,
    frame,
    integer,
    literal,
)
from attack.judge import Memory, good_request
from attack.positions import POSITIONS, Arena, Position
from attack.rows_h2 import usual
from attack.wire import OPEN, SILENT

from harness.proxies import DataPlane

Arenas = Callable[[Position, DataPlane], Arena]

pytestmark = pytest.mark.integration

BATCH = 100
BATCHES = 300
"""An attacker sends at most this many batches of frames; then the proxy has let it go on for too long."""


@dataclass(frozen=True, slots=True)
class Flood:
    """Frames for one batch; `envoy_bears` says why Envoy lets them go on."""

    name: str
    batch: Callable[[Session, bytes], bytes]
    envoy_bears: str = ""


def _streams_then(session: Session, host: bytes, then: Callable[[int], bytes]) -> bytes:
    """Requests that nobody answers, each followed by the frame that ``then`` makes for its stream."""
    out = b""
    head = block(usual(path=b"/hang", authority=host))
    for _ in range(BATCH):
        stream = session.new_stream()
        out += frame(HEADERS, END_HEADERS | END_STREAM, stream, head) + then(stream)
    return out


def _resets(session: Session, host: bytes) -> bytes:
    return _streams_then(session, host, lambda stream: frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big")))


def _provoked_resets(session: Session, host: bytes) -> bytes:
    """The peer is made to reset the stream: by an increment of zero."""
    return _streams_then(session, host, lambda stream: frame(WINDOW_UPDATE, 0, stream, bytes(4)))


def _overflown_windows(session: Session, host: bytes) -> bytes:
    increment = (0x7FFFFFFF).to_bytes(4, "big")
    return _streams_then(session, host, lambda stream: frame(WINDOW_UPDATE, 0, stream, increment))


def _malformed(session: Session, host: bytes) -> bytes:
    head = block([*usual(path=b"/x", authority=host), (b"Upper", b"x")])
    return b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, session.new_stream(), head) for _ in range(BATCH)
    )


def _wrong_priorities(session: Session, host: bytes) -> bytes:
    """The peer is made to reset the stream: by a frame of a wrong size."""
    return _streams_then(session, host, lambda stream: frame(PRIORITY, 0, stream, b"1234"))


def _data_behind_the_end(session: Session, host: bytes) -> bytes:
    return _streams_then(session, host, lambda stream: frame(DATA, 0, stream, b"x"))


def _own_parents(session: Session, host: bytes) -> bytes:
    def depends(stream: int) -> bytes:
        return frame(PRIORITY, 0, stream, stream.to_bytes(4, "big") + b"\1") + frame(
            RST_STREAM, 0, stream, bytes(4)
        )

    return _streams_then(session, host, depends)


def _opened(session: Session, host: bytes) -> int:
    """The one stream that stays open while frames for it come."""
    if session.streams:
        return next(iter(session.streams))
    stream = session.new_stream()
    head = block(usual(b"POST", b"/hang", host))
    session.line.send(frame(HEADERS, END_HEADERS, stream, head))
    return stream


def _empty_data(session: Session, host: bytes) -> bytes:
    return frame(DATA, 0, _opened(session, host)) * BATCH


def _window_updates(session: Session, host: bytes) -> bytes:
    return frame(WINDOW_UPDATE, 0, _opened(session, host), (1).to_bytes(4, "big")) * BATCH


def _priorities(session: Session, host: bytes) -> bytes:
    return frame(PRIORITY, 0, _opened(session, host), b"\0\0\0\0\1") * BATCH


def _padding_only(session: Session, host: bytes) -> bytes:
    return frame(DATA, 0x8, _opened(session, host), b"\2\0\0") * BATCH


def _connection_windows(session: Session, host: bytes) -> bytes:
    return frame(WINDOW_UPDATE, payload=(1).to_bytes(4, "big")) * BATCH


def _acknowledgements(session: Session, host: bytes) -> bytes:
    return frame(SETTINGS, 0x1) * BATCH


def _pongs(session: Session, host: bytes) -> bytes:
    return frame(PING, 0x1, payload=b"12345678") * BATCH


def _unknown_frames(session: Session, host: bytes) -> bytes:
    return frame(0x77, payload=b"?") * BATCH


def _settings(session: Session, host: bytes) -> bytes:
    return frame(SETTINGS, payload=b"\0\1\0\0\x10\0") * BATCH


def _pings(session: Session, host: bytes) -> bytes:
    return frame(PING, payload=b"12345678") * BATCH


def _continuations(session: Session, host: bytes) -> bytes:
    started = (
        b"" if session.streams else frame(HEADERS, END_STREAM, session.new_stream(), literal(b"x", b"y"))
    )
    return started + frame(CONTINUATION, 0, 1, literal(b"x", b"y" * 200)) * BATCH


def _empty_continuations(session: Session, host: bytes) -> bytes:
    started = (
        b"" if session.streams else frame(HEADERS, END_STREAM, session.new_stream(), literal(b"x", b"y"))
    )
    return started + frame(CONTINUATION, 0, 1) * BATCH


OURS = "a form of the row that is asked of tulle-proxy only"
BORNE = "Envoy answers for as long as its answers are read"

FLOODS = [
    Flood("24 rapid reset", _resets),
    Flood("24 provoked reset", _provoked_resets),
    Flood("24 overflown windows", _overflown_windows),
    Flood("24 malformed heads", _malformed),
    Flood("25 continuations", _continuations),
    Flood("25 empty continuations", _empty_continuations),
    Flood("27 ping", _pings, BORNE),
    Flood("27 settings", _settings, BORNE),
    Flood("27 priority", _priorities),
    Flood("27 window update", _window_updates),
    Flood("27 empty data", _empty_data),
    Flood("24 priorities of a wrong size", _wrong_priorities, OURS),
    Flood("24 data behind the end", _data_behind_the_end, OURS),
    Flood("24 streams that depend on themselves", _own_parents, OURS),
    Flood("27 padding only", _padding_only, OURS),
    Flood("27 windows of the connection", _connection_windows, OURS),
    Flood("27 acknowledgements", _acknowledgements, OURS),
    Flood("27 pongs", _pongs, OURS),
    Flood("27 unknown frames", _unknown_frames, OURS),
]


@pytest.fixture(params=POSITIONS)
def field(request: pytest.FixtureRequest, plane: DataPlane, arenas: Arenas) -> Arena:
    """A running arena with a new recording."""
    found = arenas(request.param, plane)
    found.application.forget()
    return found


def _flood(field: Arena, session: Session, flood: Flood) -> Iterator[int]:
    """Send batches, reading what comes back after each, until the proxy ends the connection; yields after each."""
    for number in range(BATCHES):
        if session.goaway is not None or session.line.fate not in {OPEN, SILENT}:
            return
        session.line.send(flood.batch(session, field.host.encode()))
        yield number
        session.line.sock.settimeout(PAUSE_S)
        while session.step(0):
            pass
        if session.line.fate == SILENT:
            session.line.fate = OPEN
    assert session.goaway is not None or session.line.fate != OPEN, f"{BATCHES * BATCH} frames were borne"


PAUSE_S = 0.001


@pytest.mark.parametrize("flood", FLOODS, ids=lambda each: each.name)
def test_flood(field: Arena, flood: Flood) -> None:
    if flood.envoy_bears and field.plane.name == "envoy":
        pytest.skip(f"no fair comparison: {flood.envoy_bears}")
    memory = Memory(field)
    with field.connect("h2") as line, field.connect("h2") as other:
        session, bystander = Session(line), Session(other)
        for number in _flood(field, session, flood):
            if number % 10 == 0:
                stream = bystander.request(usual(authority=field.host.encode(), path=b"/good-bystander"))
                bystander.until(stream)
                assert bystander.streams[stream].status == 200
    assert not [*good_request(field), *memory.faults()]


@pytest.mark.parametrize("kind", ["indexed", "huge value", "table resized"])
def test_decoded_size_counts(field: Arena, kind: str) -> None:
    """Row 26: a small block that decodes to a large head is refused, and its decoded size is never held."""
    memory = Memory(field)
    host = field.host.encode()
    with field.connect("h2") as line:
        session = Session(line)
        session.until(session.request(usual(authority=host, path=b"/good-first")))
        stream = session.new_stream()
        indexed = b"\x40" + integer(1, 7) + b"x" + integer(4000, 7) + b"y" * 4000
        if kind == "indexed":
            payload = block(usual(authority=host)) + indexed + integer(62, 7, 0x80) * 12_000
        elif kind == "huge value":
            payload = block(usual(authority=host)) + b"\x00" + integer(1, 7) + b"x" + integer(1 << 40, 7)
        else:
            payload = integer(1 << 30, 5, 0x20) + block(usual(authority=host))
        line.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, payload))
        session.until(stream)
        assert session.streams[stream].status in {None, 431}
        assert session.streams[stream].status or session.streams[stream].reset or session.goaway
    assert not [*good_request(field), *memory.faults()]


def test_one_byte_data_frames(field: Arena) -> None:
    """Row 28: a body in frames of one byte costs no memory; it is served, or its sender sent away."""
    memory = Memory(field)
    body = b"x" * 20_000
    with field.connect("h2") as line:
        session = Session(line)
        stream = session.new_stream()
        head = block(usual(b"POST", b"/x", field.host.encode()))
        line.send(frame(HEADERS, END_HEADERS, stream, head))
        line.send(
            b"".join(frame(DATA, 0, stream, b"x") for _ in body[1:]) + frame(DATA, END_STREAM, stream, b"x")
        )
        session.until(stream)
        served = [
            each for each in field.application.recording.requests if each.path == "/x" and each.complete
        ]
        assert session.goaway is not None or [each.body for each in served] == [body]
    assert not [*good_request(field), *memory.faults()]
