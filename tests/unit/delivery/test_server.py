"""The ADS server over real mTLS connections: who may read what, and streams that do not wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from delivery_fakes import CDS, LDS
from delivery_server import ControlPlane, control_plane, snapshot_of

from tulle.buckets import Buckets
from tulle.delivery.node import workload_of
from tulle.protos import message, unpack_any

CLUSTER = "envoy.config.cluster.v3.Cluster"
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path) as running:
        running.register("a")
        running.register("b")
        yield running


def node(workload: str) -> Any:
    made = message("envoy.config.core.v3.Node")(id=f"sidecar~127.0.0.1~{workload}.default~default.svc")
    made.metadata["LABELS"] = {"app": workload}
    return made


class Client:
    """A delta client."""

    def __init__(self, channel: grpc.aio.Channel, workload: str) -> None:
        self.node = node(workload)
        response = message("envoy.service.discovery.v3.DeltaDiscoveryResponse")
        request = message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        self.request = request
        self.call = channel.stream_stream(
            METHOD + "DeltaAggregatedResources",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )()

    async def ask(self, type_url: str) -> None:
        await self.call.write(self.request(node=self.node, type_url=type_url))

    async def read(self) -> Any:
        found = await self.call.read()
        assert found is not grpc.aio.EOF, await self.call.details()
        return found

    async def ack(self, response: Any, error: str = "") -> None:
        made = self.request(type_url=response.type_url, response_nonce=response.nonce)
        if error:
            made.error_detail.message = error
        await self.call.write(made)


def clusters(**timeouts: str) -> Any:
    return snapshot_of((CLUSTER, {name: {"name": name, "connect_timeout": t} for name, t in timeouts.items()}))


async def test_a_proxy_gets_its_resources_and_then_what_changed(plane: ControlPlane) -> None:
    plane.source.set(clusters(one="1s", two="1s"))
    async with plane.channel("a") as channel:
        client = Client(channel, "a")
        await client.ask(CDS)
        first = await client.read()
        assert {found.name for found in first.resources} == {"one", "two"}
        assert first.control_plane.identifier == "tulle"
        assert unpack_any(first.resources[0].resource).connect_timeout.seconds == 1
        await client.ack(first)
        plane.source.set(clusters(two="3s", three="1s"))
        second = await client.read()
        assert {found.name for found in second.resources} == {"two", "three"}
        await client.ack(second)
        third = await client.read()
        assert list(third.removed_resources) == ["one"]
        await client.ack(third)
        await plane.until(lambda: next(plane.registry.proxies()).synced)
        (status,) = plane.registry.proxies()
        assert status.types[CDS].resources == 2
        assert status.protocol == "delta"
        assert status.node.metadata == {"LABELS": {"app": "a"}}
        assert status.peer.spiffe_id == "spiffe://cluster.local/ns/default/sa/a"
        assert status.settled is plane.source.snapshot
        client.call.cancel()
    await plane.until(lambda: len(plane.registry) == 0 and not plane.source.notifiers)


async def test_a_refusal_is_on_record(plane: ControlPlane) -> None:
    plane.source.set(clusters(one="1s"))
    async with plane.channel("a") as channel:
        client = Client(channel, "a")
        await client.ask(CDS)
        await client.ack(await client.read(), error="one: no such thing")
        await plane.until(lambda: next(plane.registry.proxies()).refusal is not None)
        (status,) = plane.registry.proxies()
        assert status.refusal is not None
        assert status.refusal.nack.detail == "one: no such thing"
        assert status.refusal.nack.resources == ("one",)
        assert not status.synced


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return caught.value.code(), caught.value.details() or ""


async def test_a_proxy_cannot_read_as_another(plane: ControlPlane) -> None:
    plane.source.set(clusters(one="1s"))
    async with plane.channel("a") as channel:
        for claimed in ("b", "nobody"):
            client = Client(channel, claimed)
            await client.ask(CDS)
            code, details = await status_of(client.call)
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert f"not the identity of a workload {claimed}" in details
    assert len(plane.registry) == 0


async def test_a_proxy_that_is_no_longer_registered_loses_its_stream(plane: ControlPlane) -> None:
    plane.source.set(clusters(one="1s"))
    async with plane.channel("a") as channel:
        client = Client(channel, "a")
        await client.ask(CDS)
        await client.read()
        del plane.workloads["default", "a"]
        plane.source.set(clusters(one="2s"))
        code, _ = await status_of(client.call)
        assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_without_a_certificate_of_the_mesh_there_is_no_connection(plane: ControlPlane) -> None:
    root = plane.authority.root_pem.encode()
    async with plane.open_channel(grpc.ssl_channel_credentials(root)) as channel:
        code, _ = await status_of(Client(channel, "a").call)
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_a_first_request_must_say_who_asks(plane: ControlPlane) -> None:
    async with plane.channel("a") as channel:
        client = Client(channel, "a")
        client.node = None
        await client.ask(CDS)
        code, _ = await status_of(client.call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_bytes_that_are_no_request_end_only_that_stream(plane: ControlPlane) -> None:
    async with plane.channel("a") as channel:
        call = channel.stream_stream(METHOD + "DeltaAggregatedResources")()
        await call.write(b"\xff\xff\xff")
        code, _ = await status_of(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_that_does_not_read_delays_no_other(plane: ControlPlane) -> None:
    padding = "x" * 4000
    big = {f"{padding}{i}": {"name": f"{padding}{i}"} for i in range(1000)}
    plane.source.set(snapshot_of((CLUSTER, big)))
    async with plane.channel("a") as slow_channel, plane.channel("b") as channel:
        slow = Client(slow_channel, "a")
        await slow.ask(CDS)
        await plane.until(lambda: len(plane.registry) == 1)
        client = Client(channel, "b")
        await client.ask(LDS)
        assert (await client.read()).type_url == LDS
        slow.call.cancel()
        client.call.cancel()


async def test_state_of_the_world_is_served_too(plane: ControlPlane) -> None:
    plane.source.set(clusters(one="1s"))
    request = message("envoy.service.discovery.v3.DiscoveryRequest")
    response = message("envoy.service.discovery.v3.DiscoveryResponse")
    async with plane.channel("a") as channel:
        call = channel.stream_stream(
            METHOD + "StreamAggregatedResources", request.SerializeToString, response.FromString
        )()
        await call.write(request(node=node("a"), type_url=CDS))
        first = await call.read()
        assert [unpack_any(found).name for found in first.resources] == ["one"]
        await call.write(request(type_url=CDS, version_info=first.version_info, response_nonce=first.nonce))
        plane.source.set(clusters(one="1s", two="1s"))
        second = await call.read()
        assert len(second.resources) == 2
        assert second.version_info != first.version_info
        call.cancel()


async def test_many_streams_all_get_a_change(plane: ControlPlane) -> None:
    plane.source.set(clusters(one="1s"))
    async with plane.channel("a") as channel:
        clients = [Client(channel, "a") for _ in range(90)]

        async def follow(client: Client) -> None:
            await client.ask(CDS)
            await client.ack(await client.read())
            changed = await client.read()
            await client.ack(changed)
            assert changed.resources[0].name == "two"

        tasks = [asyncio.create_task(follow(client)) for client in clients]
        await plane.until(lambda: len(plane.registry) == 90)
        await plane.until(lambda: all(status.synced for status in plane.registry.proxies()))
        plane.source.set(clusters(one="1s", two="1s"))
        await asyncio.gather(*tasks)
        for client in clients:
            client.call.cancel()


async def test_a_herd_is_let_in_by_and_by_and_who_is_in_is_served_meanwhile(plane: ControlPlane) -> None:
    assert plane.ads is not None
    ads = plane.ads
    ads.admission = Buckets(rate=0, burst=3)
    plane.source.set(clusters(one="1s"))
    async with plane.channel("a") as channel:
        clients = [Client(channel, "a") for _ in range(8)]
        for client in clients:
            await client.ask(CDS)
        await plane.until(lambda: (len(plane.registry), ads.waiting) == (3, 5))
        await plane.until(lambda: sum(status.pushes for status in plane.registry.proxies()) == 3)
        assert ads.waiting == 5
        ads.admission = Buckets(rate=0, burst=5)
        for client in clients:
            await client.ack(await client.read())
        await plane.until(lambda: all(status.synced for status in plane.registry.proxies()))
        assert (len(plane.registry), ads.waiting) == (8, 0)
        for client in clients:
            client.call.cancel()


@pytest.mark.parametrize(
    ("node_id", "name"),
    [
        ("sidecar~1.2.3.4~a.b~b.svc.cluster.local", ("b", "a")),
        ("sidecar~1.2.3.4~a.v1.b~b.svc.cluster.local", ("b", "a.v1")),
        ("sidecar~1.2.3.4~a~x", None),
        ("a.b", None),
        ("", None),
        ("~~.~", None),
    ],
)
def test_node_ids(node_id: str, name: tuple[str, str] | None) -> None:
    assert workload_of(node_id) == name
