"""A real tulle-proxy and the faults of its control plane: what it keeps, what it refuses, what it starts with."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from delivery_fakes import FakeSnapshot
from delivery_server import ControlPlane, control_plane, snapshot_of
from sidecar import Sidecar, answer, cluster, endpoints, listener, routes, sidecar

from tulle.delivery.status import ProxyStatus

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

LISTENER = "envoy.config.listener.v3.Listener"
ROUTE = "envoy.config.route.v3.RouteConfiguration"
CLUSTER = "envoy.config.cluster.v3.Cluster"
ENDPOINT = "envoy.config.endpoint.v3.ClusterLoadAssignment"


def saying(port: int, body: str) -> FakeSnapshot:
    """A listener that answers everything so, beside a cluster."""
    return snapshot_of(
        (CLUSTER, {"c": cluster("c")}),
        (ENDPOINT, {"c": endpoints("c", 1)}),
        (LISTENER, {"l": listener(port)}),
        (ROUTE, {"r": routes(answer(body))}),
    )


def only(plane: ControlPlane) -> ProxyStatus:
    (status,) = plane.registry.proxies()
    return status


async def settled(plane: ControlPlane) -> None:
    """Waits until the one proxy has acknowledged the newest snapshot."""
    wanted = plane.source.snapshot
    await plane.until(lambda: len(plane.registry) == 1 and only(plane).settled is wanted)


async def until_kept(proxy: Sidecar, other_than: bytes | None = None) -> bytes:
    """The kept configuration, as soon as there is one other than that."""
    while not proxy.kept.exists() or proxy.kept.read_bytes() == other_than:
        await asyncio.sleep(0.02)
    return proxy.kept.read_bytes()


def without_domains(port: int) -> dict[str, Any]:
    return {"name": "r", "virtual_hosts": [{"name": "v", "domains": [], "routes": [answer("bad")]}]}


def without_filters(port: int) -> dict[str, Any]:
    return {**listener(port), "filter_chains": []}


BAD: dict[str, tuple[str, str, Callable[[int], dict[str, Any]], str]] = {
    "routes": (ROUTE, "r", without_domains, "virtual_hosts[0]"),
    "listener": (LISTENER, "l", without_filters, "filter_chains"),
    "cluster": (CLUSTER, "c", lambda port: cluster("c", type="EDS", connect_timeout="0s"), "connect_timeout"),
    "endpoints": (ENDPOINT, "c", lambda port: endpoints("c", 70_000), "endpoints[0].lb_endpoints[0]"),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_push_is_refused_with_its_field_and_the_last_good_stays(tmp_path: Path, what: str) -> None:
    message, name, make, field = BAD[what]
    async with control_plane(tmp_path / "cp") as plane:
        plane.register("a")
        async with sidecar(plane, tmp_path / "a") as proxy:
            good = saying(proxy.port, "good")
            plane.source.set(good)
            await proxy.until_ready()
            await settled(plane)
            bad = snapshot_of((message, {name: make(proxy.port)}))
            plane.source.set(FakeSnapshot({**good.resources, **bad.resources}))
            await plane.until(lambda: only(plane).refusal is not None)
            refusal = only(plane).refusal
            assert refusal is not None
            assert field in refusal.nack.detail, refusal.nack.detail
            assert await proxy.get() == (200, "good")
            assert await proxy.ready() == "LIVE"
            plane.source.set(saying(proxy.port, "better"))
            await settled(plane)
            assert await proxy.get() == (200, "better")


async def test_a_thousand_pushes_are_merged_and_the_last_one_counts(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "cp") as plane:
        plane.register("a")
        async with sidecar(plane, tmp_path / "a") as proxy:
            plane.source.set(saying(proxy.port, "first"))
            await proxy.until_ready()
            await settled(plane)
            before = only(plane).pushes
            for turn in range(1000):
                plane.source.set(saying(proxy.port, f"turn {turn}"))
                await asyncio.sleep(0)
            await settled(plane)
            assert await proxy.get() == (200, "turn 999")
            assert only(plane).pushes - before < 1000, "changes that come while one is in flight are merged"


async def test_a_restarted_proxy_starts_from_what_it_kept_and_is_sent_nothing_twice(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "cp") as plane:
        plane.register("a")
        async with sidecar(plane, tmp_path / "a") as proxy:
            plane.source.set(saying(proxy.port, "kept"))
            await proxy.until_ready()
            await settled(plane)
            await until_kept(proxy)
            await proxy.kill()
    assert b"kept" not in proxy.kept.read_bytes()
    again = Sidecar(plane, tmp_path / "a", ports=proxy.ports)
    try:
        await again.start()
        await again.until_ready()
        assert "the one kept on disk is in force (4 resources)" in again.log
        # Its listener is where it was: that is in the configuration.
        assert await proxy.get() == (200, "kept")
        async with control_plane(tmp_path / "cp", plane) as back:
            back.source.set(plane.source.snapshot or FakeSnapshot({}))
            await settled(back)
            assert only(back).pushes == 0
            back.source.set(saying(proxy.port, "new"))
            await settled(back)
            assert await proxy.get() == (200, "new")
    finally:
        await again.kill()


def flipped(kept: Path, older: bytes, other: Path) -> None:
    content = bytearray(kept.read_bytes())
    content[-20] ^= 4
    kept.write_bytes(content)


def cut(kept: Path, older: bytes, other: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:-100])


def foreign(kept: Path, older: bytes, other: Path) -> None:
    for name in ("configuration", "configuration.key"):
        shutil.copy(other / "identity" / name, kept.with_name(name))


def downgraded(kept: Path, older: bytes, other: Path) -> None:
    kept.write_bytes(older)


def exposed(kept: Path, older: bytes, other: Path) -> None:
    kept.with_name("configuration.key").chmod(0o644)


DAMAGES = {
    flipped: "is damaged",
    cut: "is cut short",
    foreign: "belongs to another proxy",
    downgraded: "is older",
    exposed: "is open to others",
}


async def test_what_is_kept_is_refused_when_it_is_not_whole_and_its_own(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "cp") as plane:
        plane.register("a")
        plane.register("b")
        async with sidecar(plane, tmp_path / "b", "b") as other:
            plane.source.set(saying(other.port, "other"))
            await until_kept(other)
        async with sidecar(plane, tmp_path / "a") as proxy:
            plane.source.set(saying(proxy.port, "older"))
            older = await until_kept(proxy)
            key = proxy.kept.with_name("configuration.key")
            before = key.read_bytes()
            plane.source.set(saying(proxy.port, "newer"))
            await until_kept(proxy, older)
            # The number below which nothing is accepted is written last.
            await plane.until(lambda: key.read_bytes() != before)
    for damage, said in DAMAGES.items():
        directory = tmp_path / damage.__name__
        shutil.copytree(tmp_path / "a", directory)
        (directory / "log").unlink()
        damaged = Sidecar(plane, directory)
        damage(damaged.kept, older, tmp_path / "b")
        try:
            await damaged.start()
            await damaged.says("what is kept on disk is not used")
            assert said in damaged.log
            await damaged.says("again in")
            assert await damaged.ready() == "PRE_INITIALIZING"
        finally:
            await damaged.kill()
            damaged.ports.close()
