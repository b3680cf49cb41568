"""Rows 28 and 63: slow clients are ended by time-outs and cost no memory; others, and the health port, are served."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from attack import gateway
from attack.judge import Memory, good_request
from attack.positions import LISTENERS, POSITIONS, Arena, Position, arena
from attack.slow import HANDSHAKES, HTTP_1, HTTP_2, SLOW, Client, Slow, hasten
from attack.wire import CLOSED, PATIENCE_S, RESET, Line

from harness.proxies import DataPlane, connected

pytestmark = pytest.mark.integration

CROWD = 400
"""Connections at once, of clients that never finish their first line."""


@pytest.fixture(params=POSITIONS)
def field(request: pytest.FixtureRequest, plane: DataPlane, tmp_path: Path) -> Iterator[Arena]:
    """An arena in which every time-out is short."""
    position: Position = request.param
    with arena(position, plane, tmp_path, hasten) as running:
        yield running


def _end(clients: dict[str, Client], meanwhile: Callable[[], None]) -> list[str]:
    """Has every client go on until it is ended, and says what is wrong with that."""
    left, found = dict(clients), []
    deadline = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < deadline:
        for name in [name for name, client in left.items() if client.turn()]:
            found += [f"{name}: {fault}" for fault in left.pop(name).faults()]
        meanwhile()
    return [*found, *(f"{name}: still open" for name in left)]


def _attacked(field: Arena, attacks: list[Slow]) -> list[str]:
    memory = Memory(field)
    envoy = field.plane.name == "envoy"
    clients = {each.name: each.begin(field) for each in attacks if not (envoy and each.envoy_bears)}
    try:
        found = _end(clients, lambda: None)
    finally:
        for client in clients.values():
            client.line.abort()
    found += [
        f"{each.path} reached the application whole"
        for each in field.application.snapshot().requests
        if each.path == SLOW and each.complete
    ]
    # Envoy holds more of the large answers than this suite allows; that it ends them is compared.
    return [*found, *good_request(field), *(() if envoy else memory.faults())]


def test_slow_clients_of_http_1(field: Arena) -> None:
    found = _attacked(field, HTTP_1)
    assert not found, "\n".join(found)


def test_slow_clients_of_http_2(field: Arena) -> None:
    found = _attacked(field, HTTP_2)
    assert not found, "\n".join(found)


def test_slow_handshakes(field: Arena) -> None:
    if field.position == "outbound":
        pytest.skip("an outbound listener takes no TLS")
    found = _attacked(field, HANDSHAKES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("position", POSITIONS)
def test_a_crowd_that_says_little(position: Position, plane: DataPlane, tmp_path: Path) -> None:
    """Row 63: many connections that stall at once: others are served, and the health port answers."""
    # A good client among so many must not be too slow itself.
    with arena(position, plane, tmp_path, partial(hasten, unit=3)) as running:
        _crowd(running)


def _crowd(field: Arena) -> None:
    memory = Memory(field)
    listener = LISTENERS[field.position] if field.position != "gateway" else gateway.PLAIN
    lines = [Line(connected(field.ports[listener], PATIENCE_S)) for _ in range(CROWD)]
    try:
        for line in lines:
            line.send(b"GET /slow HT")
        assert not list(good_request(field))
        assert field.health() == 200
        fates = {line.drain() for line in lines}
        assert fates <= {CLOSED, RESET}
    finally:
        for line in lines:
            line.sock.close()
    field.application.forget()
    assert not [*good_request(field), *memory.faults()]
