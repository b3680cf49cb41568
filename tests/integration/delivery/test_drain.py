"""Streams, tunnels and HTTP/2 connections of a tulle-proxy that is told to end (row 29): finished or closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from delivery_fakes import FakeSnapshot
from delivery_server import ControlPlane, control_plane, snapshot_of
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, SettingsFrame
from sidecar import Sidecar, cluster, endpoints, listener, routes, sidecar

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

UPGRADE = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


@contextlib.asynccontextmanager
async def backend(go_on: asyncio.Event) -> AsyncIterator[int]:
    """Echoes what comes over an upgraded connection; any other answer waits in its middle until it may go on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"websocket" in head.lower():
                writer.write(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                while data := await reader.read(100):
                    writer.write(data)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")
                await go_on.wait()
                writer.write(b"half")
                await writer.drain()
                await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def leading_to(port: int, backend_port: int) -> FakeSnapshot:
    to = {"match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "0s"}}
    return snapshot_of(
        ("envoy.config.cluster.v3.Cluster", {"c": cluster("c")}),
        ("envoy.config.endpoint.v3.ClusterLoadAssignment", {"c": endpoints("c", backend_port)}),
        ("envoy.config.listener.v3.Listener", {"l": listener(port, upgrade_configs=[{"upgrade_type": "websocket"}])}),
        ("envoy.config.route.v3.RouteConfiguration", {"r": routes(to)}),
    )


@pytest.fixture
async def go_on() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def proxy(tmp_path: Path, go_on: asyncio.Event) -> AsyncIterator[Sidecar]:
    async with control_plane(tmp_path / "cp") as plane, backend(go_on) as port:
        plane.register("a")
        async with sidecar(plane, tmp_path / "a") as running:
            await configured(plane, running, port)
            yield running


async def configured(plane: ControlPlane, running: Sidecar, port: int) -> None:
    plane.source.set(leading_to(running.port, port))
    await running.until_ready()


def end(proxy: Sidecar) -> asyncio.subprocess.Process:
    """Tells it to end."""
    assert proxy.process is not None
    proxy.process.terminate()
    return proxy.process


async def test_an_answer_under_way_is_finished(proxy: Sidecar, go_on: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (await reader.readuntil(b"half")).startswith(b"HTTP/1.1 200")
    process = end(proxy)
    await proxy.says("draining")
    go_on.set()
    assert await reader.read() == b"half"
    writer.close()
    assert await process.wait() == 0


async def test_a_tunnel_works_while_the_drain_lasts_and_then_ends_with_the_process(proxy: Sidecar) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(UPGRADE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    process = end(proxy)
    await proxy.says("draining")
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert await process.wait() == 0


async def frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[Frame]:
    """The frames that come, to the end; pings are answered. (The h2 package takes a GOAWAY for the end.)"""
    while head := await reader.read(9):
        frame, length = Frame.parse_frame_header(memoryview(head + await reader.readexactly(9 - len(head))))
        frame.parse_body(memoryview(await reader.readexactly(length)))
        if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            writer.write(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]).serialize())
        yield frame


async def test_an_http2_connection_is_told_and_its_stream_finished(proxy: Sidecar, go_on: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    head = Encoder().encode([(":method", "GET"), (":path", "/"), (":authority", "a"), (":scheme", "http")])
    asked = HeadersFrame(1, head, flags=["END_HEADERS", "END_STREAM"])
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame().serialize() + asked.serialize())
    body, told, process = b"", [], None
    async for frame in frames(reader, writer):
        if isinstance(frame, DataFrame):
            body += frame.data
            process = process or end(proxy)
        if isinstance(frame, GoAwayFrame):
            told.append(frame.error_code)
            go_on.set()
    writer.close()
    assert (body, told) == (b"halfhalf", [0] * len(told))
    assert told, "a GOAWAY without an error"
    assert process is not None
    assert await process.wait() == 0
