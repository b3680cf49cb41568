"""A proxy that runs out of memory, descriptors or connections (rows 21 and 22): it sheds load, lives, and recovers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.fleet import Client, Endpoint, Tally, fleet, load, until
from harness.grpc_services import cluster, http_listener
from harness.proxies import DATA_PLANES, DataPlane, PortHolder, Tulle, proxied

MONITORS = "type.googleapis.com/envoy.extensions.resource_monitors."
DESCRIPTORS = 48


@dataclass(frozen=True, slots=True)
class FewDescriptors(Tulle):
    """tulle-proxy with next to no file descriptors."""

    def command(self, bootstrap: Path) -> list[str]:
        return [
            "/bin/sh",
            "-c",
            f'ulimit -n {DESCRIPTORS} && exec "$0" "$@"',
            *Tulle.command(self, bootstrap),
        ]


@pytest.fixture(params=DATA_PLANES, ids=lambda plane: plane.name)
def plane(request: pytest.FixtureRequest) -> DataPlane:
    chosen: DataPlane = request.param
    if not chosen.available():
        pytest.skip(f"{chosen.name} is not built; make build")
    return chosen


@pytest.fixture
def tulle() -> Tulle:
    if not Tulle().available():
        pytest.skip("tulle-proxy is not built; make build")
    return Tulle()


def bootstrap(port: int, app: Endpoint, overload: dict[str, Any] | None = None) -> dict[str, Any]:
    """One listener before one endpoint."""
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]
    listeners = [http_listener("main", port, routes, [])]
    made: dict[str, Any] = {
        "static_resources": {"listeners": listeners, "clusters": [cluster("app", app.port)]}
    }
    return made | ({"overload_manager": overload} if overload else {})


def at_most(connections: int) -> dict[str, Any]:
    """An overload manager that limits connections from clients."""
    limit = {
        "@type": f"{MONITORS}downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": connections,
    }
    name = "envoy.resource_monitors.global_downstream_max_connections"
    return {"resource_monitors": [{"name": name, "typed_config": limit}]}


def cpu_ticks(pid: int) -> int:
    """Processor time used, in clock ticks (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def connections(port: int, count: int) -> list[asyncio.StreamWriter]:
    """So many that say nothing."""
    return [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(count)]


def close(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()


@pytest.mark.integration
async def test_descriptors_run_out(tulle: Tulle, tmp_path: Path) -> None:
    """Row 22: accepting rests without spinning, and goes on when there are descriptors again."""
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with fleet(1) as endpoints:
            # By itself the proxy would refuse clients before it comes to that.
            config = bootstrap(port, endpoints[0], at_most(10 * DESCRIPTORS))
            async with proxied(FewDescriptors(), config, port, tmp_path) as process:
                assert (await load(port, 10, clients=1)).errors == 0
                many = await connections(port, 2 * DESCRIPTORS)
                before = cpu_ticks(process.pid)
                await asyncio.sleep(1)
                used = cpu_ticks(process.pid) - before
                # A loop that spins uses all of it.
                assert used < os.sysconf("SC_CLK_TCK") / 4, (
                    f"{used} ticks in a second of having nothing to do"
                )
                close(many)
                await until(port, 200)
                assert (await load(port, 10, clients=1)).errors == 0


@pytest.mark.integration
async def test_memory_runs_out(tulle: Tulle, tmp_path: Path) -> None:
    """Row 21: beyond the limit requests are refused at once, and taken again when memory is free."""
    limit = {
        "refresh_interval": "0.05s",
        "resource_monitors": [
            {
                "name": "heap",
                "typed_config": {
                    "@type": f"{MONITORS}fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": 40 << 20,
                },
            }
        ],
        "actions": [
            {
                "name": f"envoy.overload_actions.{name}",
                "triggers": [{"name": "heap", "threshold": {"value": value}}],
            }
            for name, value in (("shrink_heap", 0.5), ("stop_accepting_requests", 0.8))
        ],
    }
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with (
            fleet(1) as endpoints,
            proxied(tulle, bootstrap(port, endpoints[0], limit), port, tmp_path),
        ):
            assert (await load(port, 10)).errors == 0
            hogs = await connections(port, 800)
            for hog in hogs:
                # A head that does not end, and that the proxy must keep.
                hog.write(b"GET / HTTP/1.1\r\nhost: test\r\nx-large: " + b"x" * 50_000)
            await until(port, 503)
            client = Client(port, Tally())
            assert await client.ask() == 503
            assert client.tally.bodies["envoy overloaded"] == 1
            client.close()
            close(hogs)
            await until(port, 200)
            assert (await load(port, 50)).errors == 0
            assert endpoints[0].asked >= 60


@pytest.mark.integration
async def test_no_more_connections_than_allowed(plane: DataPlane, tmp_path: Path) -> None:
    """The limit is the process's; one more is closed as it comes, and there is room again when one ends."""
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with (
            fleet(1) as endpoints,
            proxied(plane, bootstrap(port, endpoints[0], at_most(3)), port, tmp_path),
        ):
            clients = [Client(port, Tally()) for _ in range(4)]
            for client in clients[:3]:
                assert await client.ask() == 200
            assert await clients[3].ask() == 0
            clients[0].close()
            await until(port, 200)
            assert await clients[1].ask() == 200
            for client in clients:
                client.close()
