"""The clients: a raw socket that follows a call's steps, and an HTTP/2 client that sends a call's streams."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

from differ.case import Call, ClientTls, Step, Until
from differ.pki import Pki
from differ.record import Answer, Seen, interim
from differ.upstreams import abort
from harness import h1

HOST = "127.0.0.1"

PATIENCE_S = 6.0
"""How long a client waits for what it expects, in seconds."""

AGAIN_S = 0.02
"""How long it waits before it asks again for what it waits for."""

FATE_S = 0.12
"""How long after the last step a connection is watched for its end, in seconds."""


@dataclass(frozen=True, slots=True)
class Way:
    """The listener's port, and the client's own where its connection is to be known by that."""

    port: int
    source: int | None = None


def tls_context(spec: ClientTls, pki: Pki) -> ssl.SSLContext:
    """A client context that trusts the mesh root and shows the certificate that `spec` names."""
    context = ssl.create_default_context(cafile=pki.root("mesh"))
    context.check_hostname = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if spec.cert is not None:
        context.load_cert_chain(pki.chain(spec.cert), pki.key(spec.cert))
    if spec.alpn:
        context.set_alpn_protocols(list(spec.alpn))
    return context


async def connect(call: Call, way: Way, pki: Pki) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a listener, with TLS when the call says so; raises OSError, ssl.SSLError."""
    # Without a server name the address is given, which is no name to send.
    tls: dict[str, Any] = (
        {}
        if call.tls is None
        else {"ssl": tls_context(call.tls, pki), "server_hostname": call.tls.sni or HOST}
    )
    sock = await _connected(way)
    try:
        return await asyncio.open_connection(sock=sock, limit=1 << 20, **tls)
    except BaseException:
        sock.close()
        raise


async def _connected(way: Way) -> socket.socket:
    """A connected socket; a port of its own that the run holds is bound beside the socket that holds it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if way.source is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((HOST, way.source))
        await asyncio.get_running_loop().sock_connect(sock, (HOST, way.port))
    except BaseException:
        sock.close()
        raise
    return sock


@dataclass(slots=True)
class Walk:
    """A connection on which a call's steps were taken, and what was seen; `whole` when all of them could be."""

    seen: Seen = field(default_factory=Seen)
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    whole: bool = False
    secret: bool = False
    begun: float = 0.0

    async def watch(self) -> None:
        """Say what becomes of the connection in the next FATE_S seconds, and close it."""
        seen = self.seen
        try:
            if self.whole and self.reader is not None:
                seen.fate = await _watch(self.reader, seen)
        finally:
            self.close()
        # In TLS 1.3 a server refuses after its side of the handshake: whether its alert or its reset is seen is chance.
        if self.secret and not seen.answers and seen.fate in {"closed", "reset", "tls refused"}:
            seen.fate = "refused"

    def close(self) -> None:
        """Close the connection."""
        if self.writer is not None:
            self.writer.close()


async def take_steps(call: Call, way: Way, pki: Pki, before: Walk | None = None) -> Walk:
    """Follow the call's steps on one connection, which is left open: a new one, or that of the walk `before`."""
    walk = before or Walk(secret=call.tls is not None)
    seen, walk.whole = walk.seen, False
    methods: list[str] = []
    try:
        if walk.reader is None or walk.writer is None:
            walk.reader, walk.writer = await connect(call, way, pki)
            seen.ports.append(walk.writer.get_extra_info("sockname")[1])
        for step in call.steps:
            if step.raw is not None:
                walk.begun = time.monotonic()
            if step.until is not None:
                going = await _until(step.until, walk.begun, walk.reader, walk.writer, seen)
            else:
                going = await _take(step, walk.reader, walk.writer, seen, methods)
            if not going:
                break
        else:
            walk.whole = True
    except h1.NotHttp as error:
        seen.fate = str(error)
    except OSError as error:
        seen.fate = _fate_of(error)
    return walk


def _fate_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "tls refused"
    return "refused" if isinstance(error, ConnectionRefusedError) else "reset"


async def _take(
    step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen, methods: list[str]
) -> bool:
    """Do one step; False when the connection cannot go on, `seen` then says why."""
    if step.raw is not None or step.bytes is not None:
        text = step.raw.replace("\n", "\r\n") if step.raw is not None else step.bytes or ""
        methods.extend(_methods_in(text))
        writer.write(text.encode("latin-1"))
        await writer.drain()
    elif step.pause is not None:
        await asyncio.sleep(step.pause / 1000)
    elif step.end:
        writer.write_eof()
    elif step.reset:
        abort(writer)
        seen.fate = "reset by the client"
        return False
    elif step.receive is not None:
        return await _receive(step.receive, reader, seen)
    else:
        for _ in range(step.read or 0):
            if not await _read(reader, seen, methods.pop(0) if methods else "GET"):
                return False
    return True


async def _until(
    wanted: Until, begun: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen
) -> bool:
    """Ask until the answer has the wanted status, and say whether it had when it had to."""
    request = wanted.raw.replace("\n", "\r\n").encode("latin-1")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        writer.write(request)
        if not await _read(reader, seen, _methods_in(request.decode("latin-1"))[0]):
            return False
        status, now = seen.answers[-1].status, time.monotonic()
        if status == wanted.status or now > deadline:
            break
        seen.answers.pop()
        await asyncio.sleep(AGAIN_S)
    took = (now - begun) * 1000
    in_time = status == wanted.status and wanted.least <= took <= (wanted.most or took)
    seen.waits.append("in time" if in_time else f"{status} after {took:.0f} ms")
    return True


def _methods_in(text: str) -> list[str]:
    return [line.split(" ")[0] for line in text.split("\r\n") if line.endswith((" HTTP/1.1", " HTTP/1.0"))]


async def _receive(count: int, reader: asyncio.StreamReader, seen: Seen) -> bool:
    try:
        seen.raw += await asyncio.wait_for(reader.readexactly(count), PATIENCE_S)
    except asyncio.IncompleteReadError as error:
        seen.raw += error.partial
        seen.fate = "closed"
        return False
    except TimeoutError:
        seen.fate = "silent"
        return False
    return True


async def _read(reader: asyncio.StreamReader, seen: Seen, method: str) -> bool:
    """Read one final response; False when there is none or the connection ended with it."""
    before: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            head = await asyncio.wait_for(h1.read_head(reader), deadline - time.monotonic())
        except TimeoutError:
            seen.fate = "silent"
            return False
        if head is None:
            seen.fate = "closed"
            return False
        if head.status >= 200 or head.status == 101:
            break
        before.append(interim(head.status, head.headers))
    answer = Answer(head.status, head.headers, interim=tuple(before), names=head.names)
    seen.answers.append(answer)
    if h1.has_body(method, head.status):
        try:
            until_close = h1.read_body(reader, head, until_close=True)
            await asyncio.wait_for(until_close, deadline - time.monotonic())
        except (asyncio.IncompleteReadError, ConnectionError):
            answer.end = "cut"
        except TimeoutError:
            answer.end = "stalled"
    answer.body, answer.trailers = head.body, head.trailers
    if head.framing == "close":
        seen.fate = "closed"
        return False
    return True


async def _watch(reader: asyncio.StreamReader, seen: Seen) -> str:
    """What becomes of the connection in the next FATE_S seconds; bytes that nobody asked for are kept in `raw`."""
    while True:
        try:
            data = await asyncio.wait_for(reader.read(1 << 16), FATE_S)
        except TimeoutError:
            return "open"
        except ConnectionError:
            return "reset"
        if not data:
            return "closed"
        seen.raw += data
