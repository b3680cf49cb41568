"""The agent's SDS server: both secrets by name, and a renewed certificate pushed without being asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tulle.agent.held import Held
from tulle.agent.server import SecretServer
from tulle.delivery.order import SECRET
from tulle.identity.files import UnsafeKeyError
from tulle.protos import message, unpack_any

FIRST = Held("key 1", "leaf 1", "root", expires=10.0, renew_at=5.0)
SECOND = Held("key 2", "leaf 2", "root", expires=20.0, renew_at=15.0)
REQUEST = "envoy.service.discovery.v3.DiscoveryRequest"
RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"


@asynccontextmanager
async def serving(socket: Path) -> AsyncIterator[SecretServer]:
    server = SecretServer()
    await server.start(socket)
    try:
        yield server
    finally:
        await server.stop(1)


class Envoy:
    """A client that asks for one secret on a stream, as Envoy does."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self.name = name
        request, response = message(REQUEST), message(RESPONSE)
        method = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
        self.call = channel.stream_stream(method, request.SerializeToString, response.FromString)()

    async def ask(self) -> None:
        node = {"id": "sidecar~1~a.default~x"}
        await self.call.write(message(REQUEST)(node=node, type_url=SECRET, resource_names=[self.name]))

    async def read(self) -> Any:
        found = await self.call.read()
        answer = message(REQUEST)(type_url=SECRET, resource_names=[self.name], response_nonce=found.nonce)
        await self.call.write(answer)
        (packed,) = found.resources
        return unpack_any(packed)


async def test_secrets_are_served_and_renewed(tmp_path: Path) -> None:
    socket = tmp_path / "s" / "sds.sock"
    async with serving(socket) as server, grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        own, root = Envoy(channel, "default"), Envoy(channel, "ROOTCA")
        await own.ask()
        await root.ask()
        server.set(FIRST)
        found = await own.read()
        assert found.tls_certificate.certificate_chain.inline_string == "leaf 1"
        assert found.tls_certificate.private_key.inline_string == "key 1"
        assert (await root.read()).validation_context.trusted_ca.inline_string == "root"
        server.set(SECOND)
        assert (await own.read()).tls_certificate.private_key.inline_string == "key 2"
        own.call.cancel()
        root.call.cancel()


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    socket = tmp_path / "s" / "sds.sock"
    async with serving(socket):
        pass
    socket.parent.mkdir(exist_ok=True)
    socket.write_text("")
    async with serving(socket) as server, grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        server.set(FIRST)
        own = Envoy(channel, "default")
        await own.ask()
        assert await own.read()
        own.call.cancel()


async def test_a_socket_that_others_could_reach_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    with pytest.raises(UnsafeKeyError, match="chmod 700"):
        await SecretServer().start(tmp_path / "s" / "sds.sock")


async def test_a_path_that_is_too_long_is_an_error_with_the_path(tmp_path: Path) -> None:
    socket = tmp_path / ("s" * 110) / "sds.sock"
    with pytest.raises(OSError, match=r"cannot listen at .*sds\.sock"):
        await SecretServer().start(socket)
