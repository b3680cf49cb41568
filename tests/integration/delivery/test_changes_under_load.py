"""Changes of every kind of resource under load: no request fails, no stream is cut, memory returns to where it was.

By default 200 changes as quickly as they are taken. TULLE_CHANGES=1000 TULLE_CHANGES_SECONDS=60 spreads a thousand over
a minute; the figures are printed (`pytest -s`).
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from delivery_fakes import FakeSnapshot
from delivery_server import control_plane, snapshot_of
from sidecar import cluster, endpoints, listener, routes, sidecar

from harness.identities import Identities, Identity

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

CHANGES = int(os.environ.get("TULLE_CHANGES", "200"))
SECONDS = float(os.environ.get("TULLE_CHANGES_SECONDS", "0"))
CLIENTS = 8
WARM_UP = 50
MARGIN = 1024
"""KiB that resident memory may have grown by: an arena's slack; less than a snapshot for each change."""

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


@dataclass
class Load:
    """Keep-alive clients of one port that count answers by status and note what fails."""

    port: int
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def client(self, path: str) -> None:
        request = f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            reused = connection is not None
            try:
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                status, last = await self._exchange(*connection, request)
            except (OSError, asyncio.IncompleteReadError) as error:
                # RFC 9112 §9.3.1: a reused connection may have been closed before the request reached anybody.
                if not (reused and isinstance(error, ConnectionError | asyncio.IncompleteReadError)):
                    self.failures.append(f"{path}: {type(error).__name__}: {error}")
                elif isinstance(error, asyncio.IncompleteReadError) and error.partial:
                    self.failures.append(f"{path}: cut after {error.partial[:60]!r}")
                connection = None
                continue
            self.statuses[status] += 1
            if last:
                connection[1].close()
                connection = None

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[int, bool]:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            self.failures.append(f"{status} {body[:100]!r}")
        return status, b"connection: close" in head


@asynccontextmanager
async def backend(over: asyncio.Event, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """An HTTP/1.1 server that says hello to every request; `/stream` goes on until it is over."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"/stream" in head:
                    await stream(writer, over)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()

    async def stream(writer: asyncio.StreamWriter, over: asyncio.Event) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not over.is_set():
            writer.write(b"5\r\nagain\r\n")
            await asyncio.sleep(0.05)
        writer.write(b"4\r\nover\r\n0\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, backlog=256)
    async with server:
        yield server.sockets[0].getsockname()[1]


def secret(name: str) -> dict[str, Any]:
    return {"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}}


@dataclass(frozen=True)
class Mesh:
    """What the snapshots are made of: two plain backends, one with TLS, and the certificates for that."""

    port: int
    plain: tuple[int, int]
    tls: int
    roots: tuple[str, str]
    certificates: tuple[Identity, Identity]
    over: asyncio.Event

    def snapshot(self, turn: int) -> FakeSnapshot:
        """The configuration after `turn` changes; from one to the next exactly one kind of resource changes."""
        lds, rds, cds, eds, sds = ((turn + offset) // 5 for offset in (4, 3, 2, 1, 0))
        context = {
            "@type": TLS,
            "sni": "server",
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [secret("own")],
                "validation_context_sds_secret_config": secret("trust"),
            },
        }
        # Each change of clusters replaces one by another of a new name, and remakes the one with TLS.
        name = f"plain-{cds}"
        socket = {"name": "tls", "typed_config": context}
        over_tls = cluster("tls", transport_socket=socket, connect_timeout=f"{5 + cds % 7}s")
        # The streams go on for longer than the 15 s that a route's timeout is otherwise.
        to = [
            {"match": {"prefix": "/tls"}, "route": {"cluster": "tls", "timeout": "0s"}},
            {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}},
        ]
        turned = {"header": {"key": "x-turn", "value": str(rds)}}
        return snapshot_of(
            ("envoy.config.cluster.v3.Cluster", {name: cluster(name), "tls": over_tls}),
            (
                "envoy.config.endpoint.v3.ClusterLoadAssignment",
                {name: endpoints(name, self.plain[eds % 2]), "tls": endpoints("tls", self.tls)},
            ),
            ("envoy.config.listener.v3.Listener", {"l": listener(self.port, 300 + lds)}),
            (
                "envoy.config.route.v3.RouteConfiguration",
                {"r": {**routes(*to), "response_headers_to_add": [turned]}},
            ),
            ("envoy.extensions.transport_sockets.tls.v3.Secret", self._secrets(sds)),
        )

    def _secrets(self, turn: int) -> dict[str, dict[str, Any]]:
        own = self.certificates[turn % 2]
        pair = {
            "certificate_chain": {"inline_string": own.certificate},
            "private_key": {"inline_string": own.key},
        }
        roots = "".join(self.roots[: 1 + turn % 2])
        return {
            "own": {"name": "own", "tls_certificate": pair},
            "trust": {"name": "trust", "validation_context": {"trusted_ca": {"inline_string": roots}}},
        }


@asynccontextmanager
async def backends(port: int) -> AsyncIterator[Mesh]:
    identities, others = Identities(), Identities()
    context = identities.server("server")
    certificates = (identities.identity("default", "a"), identities.identity("default", "a"))
    over = asyncio.Event()
    async with backend(over) as one, backend(over) as two, backend(over, context) as tls:
        yield Mesh(port, (one, two), tls, (identities.root, others.root), certificates, over)


async def test_no_request_fails_and_memory_returns_to_where_it_was(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "cp") as plane:
        plane.register("a")
        async with sidecar(plane, tmp_path / "a") as proxy, backends(proxy.port) as mesh:

            async def change(turns: range, seconds: float) -> None:
                start = time.monotonic()
                for turn in turns:
                    plane.source.set(mesh.snapshot(turn))
                    due = start + seconds * (turn - turns.start + 1) / len(turns)
                    await asyncio.sleep(max(0.01, due - time.monotonic()))
                wanted = plane.source.snapshot
                await plane.until(lambda: all(status.settled is wanted for status in plane.registry.proxies()))

            plane.source.set(mesh.snapshot(0))
            await proxy.until_ready()
            load = Load(proxy.port)
            paths = ["/tls" if client % 4 == 0 else "/plain" for client in range(CLIENTS)]
            clients = [asyncio.create_task(load.client(path)) for path in paths]
            streams = [asyncio.create_task(whole(proxy.port, path)) for path in ("/stream", "/tls/stream")]
            await change(range(1, WARM_UP), 0)
            before, began, served = proxy.resident(), time.monotonic(), load.statuses[200]
            await change(range(WARM_UP, WARM_UP + CHANGES), SECONDS)
            took, peak, served = time.monotonic() - began, proxy.resident(), load.statuses[200] - served
            while proxy.resident() > before + MARGIN:
                await asyncio.sleep(0.1)
            after = proxy.resident()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            mesh.over.set()
            for body in await asyncio.gather(*streams):
                assert body.endswith(b"4\r\nover\r\n0\r\n\r\n"), "a stream that began before the first change"
            assert not load.failures, load.failures[:10]
            assert set(load.statuses) == {200}
            (status,) = plane.registry.proxies()
            assert status.refusal is None
            answered = await headers(proxy.port)
            assert answered[b"x-turn"] == str((WARM_UP + CHANGES - 1 + 3) // 5).encode()
            print(f"{CHANGES} changes in {took:.1f} s, {served} requests, pushes {status.pushes}, ", end="")
            print(f"resident KiB before {before}, at the end {peak}, after {after}")


async def whole(port: int, path: str) -> bytes:
    """All of an answer, to the end of its connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
    found = await reader.read()
    writer.close()
    return found


async def headers(port: int) -> dict[bytes, bytes]:
    """The headers of one answer."""
    head, _, _ = (await whole(port, "/")).partition(b"\r\n\r\n")
    return dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
