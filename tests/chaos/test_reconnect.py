"""A herd of proxies and a control plane that is killed (row 4): nobody is ever told that what it has is gone."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from harness.control_planes import ControlPlane, control_plane
from tulle.agent.ca_client import CertificateClient
from tulle.agent.held import Held
from tulle.delivery.order import CLUSTER, LISTENER
from tulle.identity.ca import utc_now
from tulle.protos import message
from tulle.supervisor.ports import PortBook

pytestmark = pytest.mark.timeout(180)

HERD = 60
OPTIONS = [("grpc.ssl_target_name_override", "tulle-control-plane"), ("grpc.use_local_subchannel_pool", 1)]
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

WORKLOAD = """
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: w{0}, namespace: herd, labels: {{app: w{0}}}}}
spec: {{serviceAccount: w{0}, ports: [{{name: http, port: {1}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: w{0}, namespace: herd}}
spec: {{selector: {{app: w{0}}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
---
"""


@dataclass
class Door:
    """The control plane's port. One at a time looks whether somebody listens, however many wait: a herd that did so on
    its own would take the processor from the control plane that it waits for.
    """

    port: int
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def opens(self) -> None:
        """Waits until a connection is taken; then everybody may come at once."""
        async with self._looking:
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.005)
                else:
                    writer.close()
                    return


@dataclass
class Member:
    """A proxy that keeps a stream open to wherever the control plane was, and never forgets what it was sent."""

    number: int
    held: Held
    root: bytes
    versions: dict[str, dict[str, str]] = field(default_factory=lambda: {CLUSTER: {}, LISTENER: {}})
    removed: list[str] = field(default_factory=list)
    streams: int = 0

    async def run(self, door: Door) -> None:
        """Reconnects for ever, without a pause that would spare the control plane anything."""
        credentials = grpc.ssl_channel_credentials(self.root, self.held.key.encode(), self.held.leaf.encode())
        while True:
            await door.opens()
            async with grpc.aio.secure_channel(
                f"127.0.0.1:{door.port}", credentials, options=OPTIONS
            ) as channel:
                try:
                    await self._stream(channel)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        request = message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
        response = message("envoy.service.discovery.v3.DeltaDiscoveryResponse")
        call: Any = channel.stream_stream(
            METHOD, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )()
        for type_url, versions in self.versions.items():
            made = request(type_url=type_url, initial_resource_versions=versions)
            made.node.id = f"sidecar~127.0.0.1~w{self.number}.herd~herd.svc.cluster.local"
            await call.write(made)
        self.streams += 1
        async for pushed in call:
            self.removed += pushed.removed_resources
            self.versions[pushed.type_url].update({each.name: each.version for each in pushed.resources})
            await call.write(request(type_url=pushed.type_url, response_nonce=pushed.nonce))


async def join(plane: ControlPlane, number: int) -> Member:
    root = (plane.state / "ca" / "root.pem").read_bytes()
    url = f"{plane.ready['api']}/v1/workloads/herd/w{number}"
    async with httpx.AsyncClient(trust_env=False) as http:
        place = {
            "outbound": 20_000 + number,
            "admin": 21_000 + number,
            "inbound": [],
            "upstreams": [],
            "ready": True,
        }
        (await http.put(f"{url}/placement", json=place)).raise_for_status()
        token = (await http.post(f"{url}/join-token")).json()["token"]
    client = CertificateClient(plane.ready["join"], plane.ready["xds"], root.decode)
    return Member(number, await client.join(token, timedelta(), utc_now()), root)


def proxies(plane: ControlPlane) -> list[dict[str, Any]]:
    answer = httpx.get(f"{plane.ready['api']}/v1/status", trust_env=False, timeout=30)
    found: list[dict[str, Any]] = answer.json()["proxies"]
    return found


async def until_synced(plane: ControlPlane) -> list[dict[str, Any]]:
    """What is known of the proxies when all of them are connected and have everything."""
    deadline = time.monotonic() + 60
    while True:
        found = [
            each for each in await asyncio.to_thread(proxies, plane) if each["connected"] and each["synced"]
        ]
        if len(found) == HERD:
            return found
        assert time.monotonic() < deadline, f"{len(found)} of {HERD}\n{plane.log[-3000:]}"
        await asyncio.sleep(0.05)


async def test_a_herd_that_finds_a_restarted_control_plane_is_sent_nothing_and_told_of_nothing_gone(
    tmp_path: Path,
) -> None:
    door = Door(PortBook(random.Random()).choose())
    config = "".join(WORKLOAD.format(number, 9000 + number) for number in range(HERD))
    with control_plane(tmp_path / "plane", config, ["--xds", f"127.0.0.1:{door.port}"]) as plane:
        members = [await join(plane, number) for number in range(HERD)]
        tasks = [asyncio.create_task(member.run(door)) for member in members]
        try:
            await until_synced(plane)
            before = [{url: dict(versions) for url, versions in each.versions.items()} for each in members]
            assert all(versions[CLUSTER] and versions[LISTENER] for versions in before)
            for _ in range(3):
                plane.kill()
                await asyncio.to_thread(plane.start)
                assert [each["pushes"] for each in await until_synced(plane)] == [0] * HERD
            assert [each.removed for each in members] == [[]] * HERD
            assert [each.versions for each in members] == before
            assert all(each.streams >= 4 for each in members)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
