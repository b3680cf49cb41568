"""Whatever tulle-proxy passes on, every other reader takes for the same requests: nothing can be smuggled behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from attack import rows_h1, rows_policy, variants_h1, variants_policy
from attack.judge import good_request
from attack.positions import Arena, Position
from attack.readers import LAST, Node, by_application, by_h11, by_proxy, node
from attack.table import HOST
from attack.wire import PATIENCE_S, SILENT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.proxies import DATA_PLANES, DataPlane

Arenas = Callable[[Position, DataPlane], Arena]

pytestmark = pytest.mark.integration

SILENCE_S = 0.3
"""A proxy that says nothing for so long waits for more; nothing is wrong with that, or with being slow."""

POSITION: Position = "outbound"
ATTACKS = (*rows_h1.ATTACKS, *rows_policy.ATTACKS, *variants_h1.ATTACKS, *variants_policy.ATTACKS)
CORPUS = [b"".join(each.parts) for each in ATTACKS if POSITION in each.positions]

LINES = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 05", b"Content-Length: 5, 5", b"content-length:5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"transfer-encoding:chunked ",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b"Connection: close", b"Connection: keep-alive",
    b"Connection: content-length", b"Connection: transfer-encoding", b"Expect: 100-continue", b"Upgrade: h2c",
    b"Connection: Upgrade", b"TE: trailers", b"Trailer: x", b"X: a\tb", b"X:", b" folded", b"X: \xe9", b"X-Y: z",
]  # fmt: skip
BODIES = [
    b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"05;x=y\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n",
    b"5\r\nhello\r\n0\r\n", b"5\nhello\n0\n\n", b"A\r\n0\r\n\r\nGET /\r\n0\r\n\r\n", b"hel",
]  # fmt: skip
STARTS = [b"POST /a HTTP/1.1", b"GET /b HTTP/1.1", b"PUT /c?d=e HTTP/1.1", b"POST /f HTTP/1.0", b"HEAD /g HTTP/1.1",
          b"GET http://" + HOST + b"/h HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET /i  HTTP/1.1"]  # fmt: skip
ENDS = [b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n"]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Up to three requests, each nearly right, with some bytes changed."""
    out = b""
    for _ in range(draw(st.integers(1, 3))):
        lines = [
            draw(st.sampled_from(STARTS)),
            b"Host: " + HOST,
            *draw(st.lists(st.sampled_from(LINES), max_size=3)),
        ]
        out += (
            b"".join(line + draw(st.sampled_from(ENDS)) for line in lines)
            + b"\r\n"
            + draw(st.sampled_from(BODIES))
        )
    changed = bytearray(out)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(changed) - 1))
        part = draw(
            st.sampled_from(
                [b"", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b"0", b"\x0b", b"\x85", b"\xff"]
            )
        )
        changed[at : at + draw(st.integers(0, 2))] = part
    return bytes(changed)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A Node server."""
    with node(tmp_path_factory.mktemp("node")) as running:
        yield running


def _same_for_all(arenas: Arenas, other: Node, message: bytes) -> int:
    """How many requests passed; what passed on each upstream connection is shown to the others."""
    envoy, tulle = (arenas(POSITION, plane) for plane in DATA_PLANES)
    tulle.application.forget()
    last = f"GET {LAST} HTTP/1.1\r\nHost: {tulle.host}\r\nConnection: close\r\n\r\n".encode()
    with tulle.connect(patience=SILENCE_S) as line:
        line.send(message.replace(HOST, tulle.host.encode()) + last)
        if line.drain() == SILENT:  # it waits for the rest of a body
            line.patience = PATIENCE_S
            line.end()
            line.drain()
    assert not [fault for fault in good_request(tulle) if "saw" not in fault]
    recording = tulle.application.snapshot()
    for number, raw in recording.raw.items():
        requests = [each for each in recording.requests if each.connection == number]
        mine = by_application(requests)
        read = {"h11": by_h11(bytes(raw)), "node": other.read(bytes(raw))}
        assert all(each == mine for each in read.values()), f"{mine} is read as {read}: {bytes(raw)!r}"
        if all(each.complete for each in requests):  # else the connection was ended inside the last one
            passed = by_proxy(envoy, bytes(raw), [each.method for each in requests])
            # It may refuse one; what it passes on are these requests, in their order.
            left = iter(mine)
            assert all(each in left for each in passed), f"{mine} is read as {passed}: {bytes(raw)!r}"
    return len(recording.requests)


def test_known_attacks_are_read_alike(arenas: Arenas, other: Node) -> None:
    passed = sum(_same_for_all(arenas, other, message) for message in CORPUS)
    assert passed > len(CORPUS)


def test_good_messages_are_read_by_all(arenas: Arenas, other: Node) -> None:
    """The readers read at all."""
    message = b"POST /a HTTP/1.1\r\nHost: " + HOST + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + BODIES[2]
    assert _same_for_all(arenas, other, message + rows_h1.request()) == 4


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(message=messages())
def test_mutated_messages_are_read_alike(message: bytes, arenas: Arenas, other: Node) -> None:
    _same_for_all(arenas, other, message)
