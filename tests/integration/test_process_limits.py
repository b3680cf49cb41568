"""Circuit breakers hold for the whole process: workers share a cluster's limits, and say what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.fleet import Client, Tally, fleet, load
from harness.grpc_services import cluster, http_listener
from harness.proxies import DATA_PLANES, DataPlane, PortHolder, running
from tulle.xds.client import ClientKind

MOST = 5
CLIENTS = 40


@dataclass(frozen=True, slots=True)
class TwoWorkers:
    """A data plane with two worker threads."""

    plane: DataPlane

    @property
    def name(self) -> str:
        return self.plane.name

    @property
    def client(self) -> ClientKind:
        return self.plane.client

    def available(self) -> bool:
        return self.plane.available()

    def command(self, bootstrap: Path) -> list[str]:
        words = self.plane.command(bootstrap)
        words[words.index("--concurrency") + 1] = "2"
        return words


@pytest.fixture(params=DATA_PLANES, ids=lambda plane: plane.name)
def plane(request: pytest.FixtureRequest) -> TwoWorkers:
    chosen = TwoWorkers(request.param)
    if not chosen.available():
        pytest.skip(f"{chosen.name} is not built; make build")
    return chosen


def remaining(admin: int) -> dict[str, int]:
    """What the proxy says is left of its limits, by resource."""
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/stats/prometheus")
        lines = connection.getresponse().read().decode().splitlines()
    prefix = "envoy_cluster_circuit_breakers_default_remaining_"
    found = [line.removeprefix(prefix).split(" ") for line in lines if line.startswith(prefix)]
    return {name.partition("{")[0]: int(value) for name, value in found if '"fleet"' in name}


@pytest.mark.integration
async def test_workers_share_the_limit_of_requests(plane: TwoWorkers, tmp_path: Path) -> None:
    limits = {"thresholds": [{"max_requests": MOST, "max_retries": 7, "track_remaining": True}]}
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "fleet", "timeout": "60s"}}]
    with contextlib.closing(PortHolder()) as ports, contextlib.ExitStack() as stack:
        port, admin = ports(), ports()
        async with fleet(1) as (endpoint,):
            made = cluster("fleet", endpoint.port, circuit_breakers=limits)
            config = {
                "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
                "static_resources": {
                    "listeners": [http_listener("main", port, routes, [])],
                    "clusters": [made],
                },
            }
            await asyncio.to_thread(stack.enter_context, running(plane, config, [port, admin], tmp_path))
            assert (await load(port, 40, clients=4)).errors == 0
            endpoint.mood, endpoint.asked = "hanging", 0
            tally = Tally()
            clients = [Client(port, tally) for _ in range(CLIENTS)]
            asking = [asyncio.create_task(client.ask()) for client in clients]
            while tally.total + endpoint.asked < CLIENTS:
                await asyncio.sleep(0)
            assert (endpoint.asked, tally.statuses) == (MOST, {503: CLIENTS - MOST})
            left = await asyncio.to_thread(remaining, admin)
            assert (left["rq"], left["retries"]) == (0, 7)
            await endpoint.kill()
            await asyncio.gather(*asking)
            for client in clients:
                client.close()
            left = await asyncio.to_thread(remaining, admin)
            assert left["rq"] == MOST
