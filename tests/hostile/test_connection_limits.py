"""Row 63: floods of connections end at the limit of a filter chain, of a listener, or of the process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attack.positions import listening
from attack.wire import CLOSED, RESET, Line, converse

from harness.grpc_services import http_listener
from harness.proxies import DataPlane, PortHolder, Tulle, connected, running

pytestmark = pytest.mark.integration

MOST = 3
PATIENCE_S = 20.0
LIMIT = "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit"
DESCRIPTORS = 256
FLOOD = 400
ASKED = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def bootstrap(ports: list[int], **more: Any) -> dict[str, Any]:
    """Listeners that answer by themselves, named by their number."""
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]
    listeners = [http_listener(f"number-{number}", port, routes, []) for number, port in enumerate(ports)]
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
    return {"admin": admin, "static_resources": {"listeners": listeners}, **more}


def by_filter(ports: list[int]) -> dict[str, Any]:
    """The first listener's only chain is limited."""
    made = bootstrap(ports)
    limit = {"@type": LIMIT, "stat_prefix": "few", "max_connections": MOST}
    (chain,) = made["static_resources"]["listeners"][0]["filter_chains"]
    chain["filters"].insert(0, {"name": "limit", "typed_config": limit})
    return made


def by_runtime(ports: list[int]) -> dict[str, Any]:
    """The first listener is limited by name."""
    layer = {"envoy.resource_limits.listener.number-0.connection_limit": MOST}
    return bootstrap(ports, layered_runtime={"layers": [{"name": "limits", "static_layer": layer}]})


def by_nested_runtime(ports: list[int]) -> dict[str, Any]:
    """The same, written as structures in one another."""
    layer = {"envoy": {"resource_limits": {"listener": {"number-0": {"connection_limit": MOST}}}}}
    return bootstrap(ports, layered_runtime={"layers": [{"name": "limits", "static_layer": layer}]})


def answers(port: int) -> list[int]:
    """What a new client hears."""
    with Line(connected(port, PATIENCE_S), PATIENCE_S) as line:
        return converse(line, [ASKED], 1).statuses


def comes_to_answer(port: int) -> bool:
    """Whether there is room again before long: an end is noticed a moment after it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if answers(port) == [200]:
                return True
    return False


@pytest.mark.parametrize("made", [by_filter, by_runtime, by_nested_runtime])
def test_one_more_is_closed_as_it_comes(made: Any, plane: DataPlane, tmp_path: Path) -> None:
    with contextlib.closing(PortHolder()) as holder, contextlib.ExitStack() as stack:
        ports = [holder(), holder()]
        process = stack.enter_context(running(plane, made(ports), ports, tmp_path))
        # The harness looked whether somebody listens; of that connection nothing must be left.
        assert comes_to_answer(ports[0])
        lines = [
            stack.enter_context(Line(connected(ports[0], PATIENCE_S), PATIENCE_S)) for _ in range(MOST - 1)
        ]
        for line in lines:
            assert converse(line, [ASKED], 1).statuses == [200]
        first = lines.pop()
        assert fills(ports[0], stack), "the last place was taken"
        with Line(connected(ports[0], PATIENCE_S), PATIENCE_S) as beyond:
            beyond.send(ASKED)
            assert beyond.drain() in {CLOSED, RESET}
            assert not beyond.kept
        assert answers(ports[1]) == [200], "another listener is not full"
        first.sock.close()
        assert comes_to_answer(ports[0])
        assert process.poll() is None


def fills(port: int, stack: contextlib.ExitStack) -> bool:
    """Takes the one place that is left, as soon as the last client's end has been noticed."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        line = stack.enter_context(Line(connected(port, PATIENCE_S), PATIENCE_S))
        if converse(line, [ASKED], 1).statuses == [200]:
            return True
    return False


@dataclass(frozen=True, slots=True)
class FewDescriptors(Tulle):
    """tulle-proxy with few file descriptors."""

    def command(self, bootstrap: Path) -> list[str]:
        shell = f'ulimit -n {DESCRIPTORS} && exec "$0" "$@"'
        return ["/bin/sh", "-c", shell, *Tulle.command(self, bootstrap)]


@pytest.fixture
def flooded(tmp_path: Path) -> Iterator[tuple[int, list[int]]]:
    """A proxy with two listeners of which the first has more silent clients than it can bear: its id, and the ports."""
    plane = FewDescriptors()
    if not plane.available():
        pytest.skip("tulle-proxy is not built; make build")
    with contextlib.closing(PortHolder()) as holder, contextlib.ExitStack() as stack:
        ports = [holder(), holder()]
        process = stack.enter_context(running(plane, bootstrap(ports), ports, tmp_path))
        for _ in range(FLOOD):
            line = stack.enter_context(Line(connected(ports[0], PATIENCE_S), PATIENCE_S))
            line.send(b"GET /slow HT")
        yield process.pid, ports


def test_without_configuration_descriptors_are_the_limit(flooded: tuple[int, list[int]]) -> None:
    """One listener under flood leaves room for the other, and for the health port; nothing has to be configured."""
    pid, ports = flooded
    for _ in range(5):
        assert answers(ports[1]) == [200]
    (admin,) = listening(pid) - set(ports)
    with Line(connected(admin, PATIENCE_S), PATIENCE_S) as line:
        line.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply = line.read_reply()
    assert reply is not None
    assert reply.status == 200
    assert len(list(Path(f"/proc/{pid}/fd").iterdir())) < DESCRIPTORS


def test_silent_clients_of_the_health_port_keep_nobody_from_it(flooded: tuple[int, list[int]]) -> None:
    pid, ports = flooded
    (admin,) = listening(pid) - set(ports)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(Line(connected(admin, PATIENCE_S), PATIENCE_S))
        with Line(connected(admin, PATIENCE_S), PATIENCE_S) as line:
            line.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reply = line.read_reply()
        assert reply is not None
        assert reply.status == 200
