"""`network_namespace_filepath` of listeners and of clusters' source addresses, in Envoy and in tulle-proxy."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.namespaces import namespaces_or_skip, refused, within
from harness.proxies import DATA_PLANES, DataPlane, PortHolder, running
from tulle.supervisor.namespace import Namespace

pytestmark = pytest.mark.integration

PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Two namespaces, a server in the first and one on the machine, and a proxy between them.

    `gate` and `checked` (which looks first whether anybody is well) lead from the machine inside; `door`, the same port
    in both namespaces, leads from there to the machine.
    """

    first: Path
    second: Path
    inside: int
    gate: int
    checked: int
    door: int
    alive: Callable[[], bool]


def greeter(listening: socket.socket, name: bytes) -> None:
    """Says its name to everybody, until the socket is closed."""
    with suppress(OSError):
        while True:
            with listening.accept()[0] as caller:
                caller.sendall(name)


def greeting(port: int) -> bytes:
    """What is said on a connection before it ends; nothing where it cannot be made."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE_S) as line:
        return line.recv(100)
    return b""


def at(port: int, namespace: Path | None = None) -> dict[str, Any]:
    within = {} if namespace is None else {"network_namespace_filepath": str(namespace)}
    return {"socket_address": {"address": "127.0.0.1", "port_value": port, **within}}


def listener(name: str, cluster: str, *addresses: dict[str, Any]) -> dict[str, Any]:
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": name,
        "cluster": cluster,
    }
    return {
        "name": name,
        "address": addresses[0],
        "additional_addresses": [{"address": each} for each in addresses[1:]],
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    }


def cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": at(port)}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment, **more}


@pytest.fixture(scope="module", params=DATA_PLANES, ids=lambda plane: plane.name)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    namespaces_or_skip()
    plane: DataPlane = request.param
    if not plane.available():
        pytest.skip(f"{plane.name} is not built; make build")
    folder = tmp_path_factory.mktemp(plane.name)
    with ExitStack() as stack:
        places = [Namespace(folder / name, "127.0.0.1") for name in ("first", "second")]
        for each in places:
            stack.callback(each.close)
        first, second = (each.path for each in places)
        ports = stack.enter_context(closing(PortHolder()))
        gate, checked, door, inside, outside = (ports() for _ in range(5))
        make = partial(socket.create_server, reuse_port=True)
        servers = {
            b"inside": within(str(first), partial(make, ("127.0.0.1", inside))),
            b"outside": make(("127.0.0.1", outside)),
        }
        for name, listening in servers.items():
            stack.enter_context(closing(listening))
            threading.Thread(target=greeter, args=(listening, name), daemon=True).start()
        source = {"source_address": at(0, first)["socket_address"]}
        check = {
            "timeout": "5s", "interval": "0.1s", "no_traffic_interval": "0.1s", "unhealthy_threshold": 1,
            "healthy_threshold": 1, "tcp_health_check": {},
        }  # fmt: skip
        well = {"health_checks": [check], "common_lb_config": {"healthy_panic_threshold": {"value": 0}}}
        static = {
            "listeners": [
                listener("gate", "inside", at(gate)),
                listener("checked", "checked", at(checked)),
                listener("door", "outside", at(door, first), at(door, second)),
            ],
            "clusters": [
                cluster("inside", inside, upstream_bind_config=source),
                cluster("checked", inside, upstream_bind_config=source, **well),
                cluster("outside", outside),
            ],
        }
        process = stack.enter_context(running(plane, {"static_resources": static}, [gate, checked], folder))
        yield Scene(first, second, inside, gate, checked, door, lambda: process.poll() is None)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_calls_are_made_from_inside(scene: Scene) -> None:
    assert refused(scene.inside)
    assert greeting(scene.gate) == b"inside"
    until(lambda: greeting(scene.checked) == b"inside", "its checks are made from inside too")


def test_a_listener_is_in_each_namespace_that_it_names(scene: Scene) -> None:
    assert refused(scene.door)
    for namespace in (scene.first, scene.second):
        dial = partial(within, str(namespace), partial(greeting, scene.door))
        until(lambda dial=dial: dial() == b"outside", "it is listened on")  # type: ignore[misc]


def test_a_namespace_that_is_gone_fails_calls_and_nothing_else(scene: Scene) -> None:
    """Nor are calls made from anywhere else instead; when it is there again, they succeed."""
    away = scene.first.with_name("away")
    scene.first.rename(away)
    try:
        with closing(socket.create_server(("127.0.0.1", scene.inside), reuse_port=True)) as elsewhere:
            elsewhere.setblocking(False)
            assert greeting(scene.gate) == b""
            with pytest.raises(BlockingIOError):
                elsewhere.accept()
        assert scene.alive()
    finally:
        away.rename(scene.first)
    until(lambda: greeting(scene.gate) == b"inside", "it is called again")
