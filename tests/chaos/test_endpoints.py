"""Faults of endpoints (rows 14 to 16, 18, 25 and 30): what callers see of them through a proxy, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.fleet import Client, Endpoint, Tally, fleet, load
from harness.grpc_services import cluster, http_listener
from harness.proxies import DATA_PLANES, DataPlane, PortHolder, Tulle, proxied

RETRIES = {
    "retry_on": "connect-failure,refused-stream,reset,5xx",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}
EJECTION = {
    "consecutive_5xx": 3,
    "consecutive_local_origin_failure": 3,
    "split_external_local_origin_errors": True,
    "interval": "0.05s",
    "base_ejection_time": "30s",
    "max_ejection_percent": 100,
}
NO_PANIC = {"healthy_panic_threshold": {"value": 0}}
AMPLE = {"thresholds": [{"max_retries": 1000, "max_requests": 4096, "max_pending_requests": 4096}]}


@pytest.fixture(params=DATA_PLANES, ids=lambda plane: plane.name)
def plane(request: pytest.FixtureRequest) -> DataPlane:
    chosen: DataPlane = request.param
    if not chosen.available():
        pytest.skip(f"{chosen.name} is not built; make build")
    return chosen


def over(endpoints: Sequence[Endpoint], **more: Any) -> dict[str, Any]:
    """A cluster of all endpoints."""
    made = cluster("fleet", 0, circuit_breakers=AMPLE, connect_timeout="1s", **more)
    addresses = [{"socket_address": {"address": "127.0.0.1", "port_value": each.port}} for each in endpoints]
    made["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [{"endpoint": {"address": at}} for at in addresses]}
    ]
    return made


def bootstrap(port: int, made: dict[str, Any], **route: Any) -> dict[str, Any]:
    """A listener that routes everything to the cluster."""
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "fleet", "timeout": "10s", **route}}]
    return {"static_resources": {"listeners": [http_listener("main", port, routes, [])], "clusters": [made]}}


@pytest.mark.integration
async def test_half_of_the_endpoints_are_killed(plane: DataPlane, tmp_path: Path) -> None:
    """Row 14: retries absorb it, at most 0.1 % of the requests fail."""
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with fleet(4) as endpoints:
            config = bootstrap(port, over(endpoints, outlier_detection=EJECTION), retry_policy=RETRIES)
            async with proxied(plane, config, port, tmp_path):
                loading = asyncio.create_task(load(port, 2000))
                while sum(each.asked for each in endpoints) < 700:
                    await asyncio.sleep(0)
                await asyncio.gather(*(each.kill() for each in endpoints[:2]))
                tally = await loading
    assert tally.total == 2000
    assert tally.errors <= 2, tally.statuses
    assert tally.bodies["e2"] + tally.bodies["e3"] > 1000


@pytest.mark.integration
async def test_all_endpoints_fail_and_come_back(plane: DataPlane, tmp_path: Path) -> None:
    """Row 15: with all of them ejected the panic rule goes on asking them, so that callers get what there is at once,
    and retries stay within their budget."""
    budget = {"thresholds": [{"retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 1}}]}
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with fleet(3) as endpoints:
            made = over(endpoints, outlier_detection=EJECTION) | {"circuit_breakers": budget}
            config = bootstrap(port, made, retry_policy=RETRIES)
            async with proxied(plane, config, port, tmp_path):
                for each in endpoints:
                    each.mood = "failing"
                tally = await load(port, 600, clients=10)
                assert tally.statuses == {503: 600}
                asked = sum(each.asked for each in endpoints)
                # One retry of ten requests at once may run; each request could make two.
                assert 600 < asked <= 600 * 1.5, asked
                for each in endpoints:
                    each.mood = "fine"
                assert (await load(port, 100)).errors == 0


@pytest.mark.integration
async def test_nobody_listens_any_more(plane: DataPlane, tmp_path: Path) -> None:
    """Row 15, without the panic rule: once all are ejected nothing is tried, and the answer says so."""
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with fleet(2) as endpoints:
            made = over(endpoints, outlier_detection=EJECTION, common_lb_config=NO_PANIC)
            async with proxied(plane, bootstrap(port, made), port, tmp_path):
                for each in endpoints:
                    each.mood = "failing"
                asked = [-1, 0]
                # Envoy takes a second to tell its workers of the second ejection.
                while asked[-1] != asked[-2]:
                    assert (await load(port, 50)).statuses == {503: 50}
                    asked.append(sum(each.asked for each in endpoints))
                    await asyncio.sleep(0.01)
                assert asked[-1] < 50 * (len(asked) - 2)


@pytest.mark.integration
async def test_one_endpoint_hangs(plane: DataPlane, tmp_path: Path) -> None:
    """Row 16: a try times out, another endpoint answers, and the one that hangs is ejected after a few."""
    retries = RETRIES | {"per_try_timeout": "0.1s"}
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with fleet(3) as endpoints:
            made = over(
                endpoints,
                outlier_detection=EJECTION
                | {"consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100},
            )
            async with proxied(plane, bootstrap(port, made, retry_policy=retries), port, tmp_path):
                endpoints[0].mood = "hanging"
                assert (await load(port, 300)).errors == 0
                before = endpoints[0].asked
                # Eight clients, and three failures in a row: nobody asks it any more.
                assert before <= 16
                assert (await load(port, 300)).errors == 0
                assert endpoints[0].asked == before


@pytest.mark.integration
async def test_a_body_that_breaks_off_is_not_asked_for_again(plane: DataPlane, tmp_path: Path) -> None:
    """Row 18: once bytes have reached the client there is no retry, and the client sees the break."""
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with fleet(1) as endpoints:
            config = bootstrap(port, over(endpoints), retry_policy=RETRIES)
            async with proxied(plane, config, port, tmp_path):
                endpoints[0].mood = "breaking"
                client = Client(port, Tally())
                assert [await client.ask() for _ in range(5)] == [0] * 5
                client.close()
                assert endpoints[0].asked == 5


@pytest.mark.integration
async def test_an_endpoint_flaps(plane: DataPlane, tmp_path: Path) -> None:
    """Row 25: it is ejected for longer each time, so most requests do not even notice; none fails."""
    ejection = EJECTION | {"consecutive_5xx": 1, "base_ejection_time": "0.2s", "max_ejection_time": "60s"}
    with contextlib.closing(PortHolder()) as ports:
        port = ports()
        async with fleet(3) as endpoints:
            made = over(endpoints, outlier_detection=ejection)
            async with proxied(plane, bootstrap(port, made, retry_policy=RETRIES), port, tmp_path):
                tally, done = Tally(), asyncio.Event()

                async def flap() -> None:
                    while not done.is_set():
                        endpoints[0].mood = "failing" if endpoints[0].mood == "fine" else "fine"
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(done.wait(), 0.05)

                flapping = asyncio.create_task(flap())
                for _ in range(6):
                    part = await load(port, 500)
                    tally.statuses += part.statuses
                    tally.bodies += part.bodies
                done.set()
                await flapping
    assert tally.errors == 0, tally.statuses
    assert endpoints[0].asked < tally.total / 4, "a third would be its share if nothing were damped"


@pytest.mark.integration
async def test_a_retry_storm_over_three_hops(tmp_path: Path) -> None:
    """Row 30: three hops that would all retry twice add no more than one budget to the load: 1.2 times."""
    plane = Tulle()
    if not plane.available():
        pytest.skip("tulle-proxy is not built; make build")
    rate = {"filter_metadata": {"dev.tulle": {"retry_budget": {"percent": 20, "min_per_second": 0}}}}
    with contextlib.closing(PortHolder()) as ports:
        hops = [ports() for _ in range(3)]
        async with fleet(1) as endpoints, contextlib.AsyncExitStack() as stack:
            endpoints[0].mood = "failing"
            for number, (port, to) in enumerate(zip(hops, [*hops[1:], endpoints[0].port], strict=True)):
                folder = tmp_path / f"hop{number}"
                folder.mkdir()
                made = cluster("fleet", to, circuit_breakers=AMPLE, metadata=rate)
                await stack.enter_async_context(
                    proxied(plane, bootstrap(port, made, retry_policy=RETRIES), port, folder)
                )
            tally = await load(hops[0], 1000)
    assert tally.statuses == {503: 1000}
    # Without budgets it would be 27 times as many.
    assert 1000 < endpoints[0].asked <= 1200
