"""Rows 5, 12 and 13: after an answer that came too early, or a refused upgrade, no connection is used again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attack.frames import DATA, END_HEADERS, END_STREAM, HEADERS, Session, block, frame
from attack.judge import Memory, good_request
from attack.outcome import GOOD
from attack.positions import POSITIONS, Arena, Position
from attack.rows_h2 import usual
from attack.upstream import Recording
from attack.wire import CLOSED, OPEN, RESET

from harness.proxies import DataPlane

Arenas = Callable[[Position, DataPlane], Arena]

pytestmark = pytest.mark.integration

GOOD_REQUESTS = 4
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.fixture(params=POSITIONS)
def field(request: pytest.FixtureRequest, plane: DataPlane, arenas: Arenas) -> Arena:
    """A running arena with a new recording."""
    found = arenas(request.param, plane)
    found.application.forget()
    return found


def _unharmed(field: Arena, path: str) -> None:
    """Good requests are served, on other connections than the one of `path`, and nothing was smuggled."""
    memory = Memory(field)
    for _ in range(GOOD_REQUESTS):
        field.application.recording.requests = [
            each for each in field.application.recording.requests if each.path != GOOD
        ]
        faults = list(good_request(field))
        assert not faults
        recording = field.application.recording
        spoilt = {each.connection for each in recording.requests if each.path.startswith(path)}
        assert not spoilt & {each.connection for each in recording.requests if each.path == GOOD}
    _nothing_smuggled(field.application.recording)
    assert not list(memory.faults())


def _nothing_smuggled(recording: Recording) -> None:
    assert not [
        each for each in recording.requests if "smuggled" in each.path or each.method not in {"GET", "POST"}
    ]


def test_answered_before_the_body_h1(field: Arena) -> None:
    """Row 5: the rest of the body would be read as a request."""
    smuggled = SMUGGLED.format(host=field.host)
    with field.connect() as line:
        head = f"POST /early HTTP/1.1\r\nHost: {field.host}\r\nContent-Length: {100 + len(smuggled)}\r\n\r\n"
        line.send((head + "x" * 100).encode())
        reply = line.read_reply()
        assert reply is not None
        assert reply.status == 200
        line.send(smuggled.encode())
        line.send(smuggled.encode())
        # What is behind the body is another request at most, never the body itself.
        line.end()
        line.drain()
    served = [each for each in field.application.recording.requests if "smuggled" in each.path]
    assert len(served) <= 1
    field.application.recording.requests = [
        each for each in field.application.recording.requests if each not in served
    ]
    _unharmed(field, "/early")


def test_answered_before_the_body_and_left_h1(field: Arena) -> None:
    """Row 5: the client goes away in the middle of its body."""
    with field.connect() as line:
        line.send(
            f"POST /early HTTP/1.1\r\nHost: {field.host}\r\nContent-Length: 1000\r\n\r\nGET /smu".encode()
        )
        reply = line.read_reply()
        assert reply is not None
        assert reply.status == 200
    _unharmed(field, "/early")


def test_answered_before_the_body_h2(field: Arena) -> None:
    """Row 5, from HTTP/2: the stream is given up after the answer."""
    with field.connect("h2") as line:
        session = Session(line)
        stream = session.new_stream()
        length = [(b"content-length", b"1000")]
        head = block([*usual(b"POST", b"/early", field.host.encode()), *length])
        line.send(
            frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, 0, stream, b"GET /smuggled HTTP/1.1")
        )
        session.until(stream)
        assert session.streams[stream].status == 200
    _unharmed(field, "/early")


def test_surplus_bytes_behind_an_answer(field: Arena) -> None:
    """Row 5: what an upstream says unasked is nobody's answer. (Envoy may take it for the next request's.)"""
    if field.plane.name == "envoy":
        pytest.skip("no fair comparison: whether Envoy notices in time is chance")
    with field.connect() as line:
        for path in ("/surplus", "/plain"):
            line.send(f"GET {path} HTTP/1.1\r\nHost: {field.host}\r\n\r\n".encode())
            reply = line.read_reply()
            assert reply is not None
            assert reply.body == f"GET {path}\n".encode()
    _unharmed(field, "/surplus")


def test_expected_continue_and_early_answer(field: Arena) -> None:
    """Row 12: the body that was announced and not sent must not be taken from the next request."""
    smuggled = SMUGGLED.format(host=field.host)
    with field.connect() as line:
        line.send(
            f"POST /early HTTP/1.1\r\nHost: {field.host}\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(smuggled)}\r\n\r\n".encode()
        )
        reply = line.read_reply()
        assert reply is not None
        assert reply.status == 200
        line.send(smuggled.encode())
        line.send(smuggled.replace("/smuggled", "/behind").encode())
        line.end()
        line.drain()
    _nothing_smuggled(field.application.recording)
    _unharmed(field, "/early")


def test_expected_continue_and_early_answer_h2(field: Arena) -> None:
    """Row 12, from HTTP/2: the body that was announced never comes."""
    with field.connect("h2") as line:
        session = Session(line)
        stream = session.new_stream()
        more = [(b"expect", b"100-continue"), (b"content-length", b"100")]
        head = block([*usual(b"POST", b"/early", field.host.encode()), *more])
        line.send(frame(HEADERS, END_HEADERS, stream, head))
        session.until(stream)
        assert session.streams[stream].status == 200
    _unharmed(field, "/early")


@pytest.mark.parametrize("path", ["/no-switch", "/x"])
def test_bytes_behind_an_extended_connect_that_is_refused(field: Arena, path: str) -> None:
    """Row 13, from HTTP/2: what follows is for a tunnel that never comes to be."""
    with field.connect("h2") as line:
        session = Session(line)
        stream = session.new_stream()
        (_, *others) = usual(path=path.encode(), authority=field.host.encode())
        head = block([(b":method", b"CONNECT"), (b":protocol", b"websocket"), *others])
        smuggled = SMUGGLED.format(host=field.host).encode()
        line.send(frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, 0, stream, smuggled))
        session.until(stream)
    assert b"smuggled" not in field.application.recording.all_bytes()
    _unharmed(field, path if path != "/x" else "/nowhere")


def test_bytes_behind_an_upgrade_are_held_and_dropped(field: Arena) -> None:
    """Row 13: the upstream answers 200 to an upgrade, so that what followed was meant for nobody."""
    with field.connect() as line:
        line.send(
            f"GET /no-switch HTTP/1.1\r\nHost: {field.host}\r\n{UPGRADE}\r\n".encode()
            + SMUGGLED.format(host=field.host).encode()
        )
        reply = line.read_reply()
        assert reply is not None
        assert reply.status == 200
        assert line.drain() in {CLOSED, RESET}
    assert b"smuggled" not in field.application.recording.all_bytes()
    _unharmed(field, "/no-switch")


def test_upgrade_with_a_body(field: Arena) -> None:
    """Row 13: a request to switch that has a body is none, or is refused: its body is nobody's tunnel."""
    with field.connect() as line:
        line.send(
            f"POST /no-switch HTTP/1.1\r\nHost: {field.host}\r\n{UPGRADE}Content-Length: 5\r\n\r\nhello".encode()
        )
        line.end()
        line.drain()
    asked = [each for each in field.application.snapshot().requests if each.path == "/no-switch"]
    if field.plane.name == "tulle":
        assert all(not each.values("upgrade") and each.body in {b"", b"hello"} for each in asked)
    _unharmed(field, "/nowhere")


def test_bytes_behind_an_upgrade_pass_after_101(field: Arena) -> None:
    """Row 13: once the upstream has switched, what was held is the tunnel's."""
    with field.connect() as line:
        line.send(f"GET /switch HTTP/1.1\r\nHost: {field.host}\r\n{UPGRADE}\r\nearly".encode())
        reply = line.read_reply()
        assert reply is not None
        assert reply.status == 101
        assert line.exactly(5) == b"early"
        line.send(b"late")
        assert line.exactly(4) == b"late"
        assert line.fate == OPEN
    _unharmed(field, "/switch")


def test_body_that_breaks_off_is_no_request(field: Arena) -> None:
    """Row 6: a chunk that turns out bad when its request is already on its way ends both connections."""
    with field.connect() as line:
        line.send(
            f"POST /x HTTP/1.1\r\nHost: {field.host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode()
        )
        _arrived(field, "/x")
        line.send(b"0x1\r\n" + SMUGGLED.format(host=field.host).encode())
        assert line.drain() in {CLOSED, RESET}
    broken = [each for each in field.application.recording.requests if each.path == "/x"]
    assert not [each for each in broken if each.complete]
    _unharmed(field, "/x")


def _arrived(field: Arena, path: str) -> None:
    """Waits until the application has a request's head, by asking the proxy for something else meanwhile."""
    for _ in range(200):
        if any(each.path == path for each in field.application.recording.requests):
            return
        assert not [fault for fault in good_request(field) if "saw" not in fault]
    raise AssertionError(f"{path} did not reach the application")


def test_trailing_data_of_an_h2_stream(field: Arena) -> None:
    """Row 23 in two steps: what goes beyond the declared length is nobody's, though the request may be answered."""
    with field.connect("h2") as line:
        session = Session(line)
        stream = session.new_stream()
        head = block([*usual(b"POST", b"/x", field.host.encode()), (b"content-length", b"5")])
        line.send(frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, 0, stream, b"hello"))
        line.send(frame(DATA, END_STREAM, stream, b"GET /smuggled HTTP/1.1\r\n\r\n"))
        session.until(stream)
    assert b"smuggled" not in field.application.recording.all_bytes()
    _unharmed(field, "/x")
