"""Recording upstream servers: each behaves as the case's script or the request's `x-do` header says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from differ.case import Upstream
from differ.pki import Pki
from differ.record import Received
from harness import h1

HANG_S = 30.0
QUIET_S = 0.15

SWITCHES = {
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
    "tunnel": b"HTTP/1.1 200 Established\r\n\r\n",
}
"""Heads behind which everything is sent back."""


def behaviour_of(text: str) -> tuple[str, str]:
    """`status=503` → ("status", "503"); a bare word has an empty value."""
    name, _, value = text.partition("=")
    return name, value


def abort(writer: asyncio.StreamWriter) -> None:
    """End the connection with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"


async def proxy_header(reader: asyncio.StreamReader) -> str:
    """Read a PROXY header, version 1 or 2, and write it as version 1 would: `v2 TCP4 <from> <to> e00001`.

    Addresses have their ports; what follows them in version 2 is in hexadecimal digits.
    """
    start = await reader.readexactly(len(PROXY_V2))
    if start != PROXY_V2:
        line = start + await reader.readuntil(b"\r\n")
        family, *rest = line.decode("latin-1").split()[1:]
        if family == "UNKNOWN":
            return "v1 UNKNOWN"
        return f"v1 {family} {rest[0]}:{rest[2]} {rest[1]}:{rest[3]}"
    command, kind, length = struct.unpack("!BBH", await reader.readexactly(4))
    body = await reader.readexactly(length)
    if (command, kind) != (0x21, 0x11):
        return f"v2 {command:02x} {kind:02x} {body.hex()}"
    source, target = (socket.inet_ntoa(body[at : at + 4]) for at in (0, 4))
    ports = struct.unpack("!HH", body[8:12])
    return f"v2 TCP4 {source}:{ports[0]} {target}:{ports[1]} {body[12:].hex()}".rstrip()


@dataclass(slots=True)
class Recorder:
    """What all upstreams of one proxy run received, in order of arrival, and where each script stands.

    `ended` counts the connections that have ended, whoever ended them.
    """

    received: list[Received] = field(default_factory=list)
    scripts: dict[str, list[str]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    ended: int = 0

    def start_call(self, upstreams: dict[str, Upstream]) -> None:
        """Forget what was received; every script is at its beginning."""
        self.received = []
        self.scripts = {name: list(upstream.script) for name, upstream in upstreams.items()}

    def add(self, request: Received, asked: str | None) -> str:
        """Write `request` down and say how to behave."""
        self.received.append(request)
        self.arrived.set()
        script = self.scripts.get(request.upstream)
        return script.pop(0) if script else (asked or "ok")

    async def quiet(self) -> None:
        """Return when nothing has arrived for QUIET_S."""
        count = -1
        while count != len(self.received):
            count = len(self.received)
            await asyncio.sleep(QUIET_S)

    async def at_least(self, count: int, patience: float) -> None:
        """Return when `count` requests of this call have arrived, or after `patience` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while len(self.received) < count and loop.time() < deadline:
            self.arrived.clear()
            try:
                await asyncio.wait_for(self.arrived.wait(), deadline - loop.time())
            except TimeoutError:
                return


@dataclass(slots=True)
class Server:
    """One listening upstream of a case."""

    name: str
    spec: Upstream
    recorder: Recorder
    port: int = 0
    _server: asyncio.Server | None = None
    _connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(
        self,
        pki: Pki,
        handler: Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> None:
        """Listen on a free port of 127.0.0.1 and hand each connection to `handler`."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await handler(self, reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, h1.NotHttp):
                pass  # The proxy ended the connection, or the run is over; what was received is written down.
            finally:
                self.recorder.ended += 1
                self._tasks.discard(task)
                writer.close()

        context = None
        if self.spec.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pki.chain(self.spec.tls), pki.key(self.spec.tls))
            context.set_alpn_protocols(["h2"] if self.spec.protocol == "h2" else ["http/1.1"])
        self._server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    def connection(self) -> int:
        """The number of a new connection, from 1."""
        self._connections += 1
        return self._connections

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def serve_tcp(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back; scripts: `greet` speaks first, `bye` last, `close` ends at once, `reset` at the first
    bytes: before them a proxy may still be connecting, and what it then sees is a connection that it could not make.

    `half` speaks, ends its side, and then only listens.
    """
    said = await proxy_header(reader) if server.spec.proxied else ""
    entry = Received(server.name, "tcp", "", "", [], connection=server.connection(), proxied=said)
    name, _ = behaviour_of(server.recorder.add(entry, None))
    if name == "reset":
        entry.body += await reader.read(1 << 16)
        abort(writer)
        return
    if name == "greet":
        writer.write(f"hello from {server.name}\n".encode())
    if name == "half":
        writer.write(f"all from {server.name}\n".encode())
        writer.write_eof()
    while name != "close" and (data := await reader.read(1 << 16)):
        entry.body += data
        if name != "half":
            writer.write(data)
        await writer.drain()
    if name == "bye":
        writer.write(f"bye from {server.name}\n".encode())
        await writer.drain()


async def serve_h1(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer HTTP/1.1 requests on one connection."""
    said = await proxy_header(reader) if server.spec.proxied else ""
    number = server.connection()
    while (head := await h1.read_head(reader)) is not None:
        method, path, _ = head.first.split(" ")
        entry = Received(server.name, "h1", method, path, head.headers, connection=number)
        entry.names, entry.proxied = head.names, said
        name, value = behaviour_of(server.recorder.add(entry, head.value("x-do")))
        if name in {"reset", "close"}:
            if name == "reset":
                abort(writer)
            return
        if name == "interim":
            writer.write(server.spec.replies[value].encode("latin-1"))
        if name == "continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if name in SWITCHES:
            writer.write(SWITCHES[name])
            await _echo(reader, writer, entry)
            return
        if name == "early":
            await _answer(server, writer, entry, ("reply", value) if value else ("ok", ""))
            await asyncio.sleep(HANG_S)
        await h1.read_body(reader, head, until_close=False)
        entry.body, entry.trailers = head.body, head.trailers
        if not await _answer(server, writer, entry, (name, value)):
            return


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, entry: Received) -> None:
    while data := await reader.read(1 << 16):
        entry.body += data
        writer.write(data)
        await writer.drain()


async def _answer(
    server: Server, writer: asyncio.StreamWriter, entry: Received, behaviour: tuple[str, str]
) -> bool:
    """Write the response; False when the connection is to end."""
    name, value = behaviour
    if name == "hang":
        await asyncio.sleep(HANG_S)
        return False
    if name in {"delay", "delay-close"}:
        await asyncio.sleep(int(value) / 1000)
        if name == "delay-close":
            return False
    if name in {"reply", "reply-close", "reply-reset"}:
        writer.write(server.spec.replies[value].encode("latin-1"))
        await writer.drain()
        if name == "reply-reset":
            abort(writer)
        return name == "reply"
    status = int(value) if name == "status" else 200
    body = b"x" * int(value) if name == "size" else f"{server.name} {entry.method} {entry.path}\n".encode()
    head = f"HTTP/1.1 {status} Some\r\nx-upstream: {server.name}\r\n"
    if name in {"chunked", "trailers"}:
        ending = b"0\r\nx-trailer: yes\r\n\r\n" if name == "trailers" else b"0\r\n\r\n"
        writer.write(
            head.encode() + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body) + ending
        )
    elif h1.has_body(entry.method, status):
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    else:
        sized = f"content-length: {len(body)}\r\n" if entry.method == "HEAD" else ""
        writer.write(f"{head}{sized}\r\n".encode())
    await writer.drain()
    return True
