"""The clients: a raw socket that follows a call's steps, and an HTTP/2 client that sends a call's streams."""

from __future__ import annotations

import asyncio
import ssl
import time

from differ.case import Call, ClientTls, Step
from differ.pki import Pki
from differ.record import Answer, Seen, interim
from differ.upstreams import abort
from harness import h1

PATIENCE_S = 6.0
"""How long a client waits for what it expects, in seconds."""

FATE_S = 0.12
"""How long after the last step a connection is watched for its end, in seconds."""


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


async def connect(call: Call, port: int, pki: Pki) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the listener at `port`, with TLS when the call says so; raises OSError, ssl.SSLError."""
    if call.tls is None:
        return await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    context = tls_context(call.tls, pki)
    return await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=call.tls.sni, limit=1 << 20
    )


async def run_steps(call: Call, port: int, pki: Pki) -> Seen:
    """Follow the call's steps on one new connection and say what came of it."""
    seen = Seen()
    try:
        reader, writer = await connect(call, port, pki)
    except OSError as error:
        seen.fate = _fate_of(error)
        return seen
    seen.ports.append(writer.get_extra_info("sockname")[1])
    methods: list[str] = []
    try:
        for step in call.steps:
            if not await _take(step, reader, writer, seen, methods):
                break
        else:
            seen.fate = await _watch(reader, seen)
    except h1.NotHttp as error:
        seen.fate = str(error)
    except OSError as error:
        seen.fate = _fate_of(error)
    finally:
        writer.close()
    # In TLS 1.3 a server refuses after its side of the handshake: whether its alert or its reset is seen is chance.
    if call.tls is not None and not seen.answers and seen.fate in {"closed", "reset", "tls refused"}:
        seen.fate = "refused"
    return seen


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
