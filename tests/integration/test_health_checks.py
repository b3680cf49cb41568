"""Several kinds of health checks for one cluster, which Envoy does not take: a host must pass all of them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from harness.fleet import fleet, load, until
from harness.grpc_services import cluster, http_listener
from harness.proxies import PortHolder, Tulle, running

EVERY = {
    "timeout": "2s",
    "interval": "0.05s",
    "no_traffic_interval": "0.05s",
    "unhealthy_threshold": 1,
    "healthy_threshold": 1,
}
CHECKS: list[dict[str, Any]] = [
    EVERY | {"tcp_health_check": {}},
    EVERY | {"http_health_check": {"path": "/health"}},
]


@pytest.mark.integration
async def test_a_host_must_pass_every_kind_of_check(tmp_path: Path) -> None:
    plane = Tulle()
    if not plane.available():
        pytest.skip("tulle-proxy is not built; make build")
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "fleet"}}]
    with contextlib.closing(PortHolder()) as ports, contextlib.ExitStack() as stack:
        port = ports()
        async with fleet(1) as (endpoint,):
            # It accepts connections all the time, and answers 503 to whatever it is asked.
            endpoint.mood = "failing"
            made = cluster(
                "fleet",
                endpoint.port,
                health_checks=CHECKS,
                common_lb_config={"healthy_panic_threshold": {"value": 0}},
            )
            listeners = [http_listener("main", port, routes, [])]
            config = {"static_resources": {"listeners": listeners, "clusters": [made]}}
            await asyncio.to_thread(stack.enter_context, running(plane, config, [port], tmp_path))
            tally = await load(port, 20)
            assert (tally.statuses, tally.bodies) == ({503: 20}, {"no healthy upstream": 20})
            endpoint.mood = "fine"
            await until(port, 200)
            assert (await load(port, 20)).errors == 0
            # Nobody listens any more: neither kind of check passes.
            await endpoint.kill()
            await until(port, 503)
            await endpoint.start()
            await until(port, 200)
