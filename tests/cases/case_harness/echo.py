"""Upstreams for the calls: HTTP/1.1 servers that answer with what they received and remember it.

A request's `x-echo` header asks for misbehaviour: `status=503`, `fail=2` (only the first two tries of a call
fail), `delay=0.5` (seconds), `reset` (the connection is closed without an answer), `only=backend-v1` (other
endpoints behave).

Over TLS the answer's `x-peer` is the common name of the caller's certificate, or `nobody`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

MAX_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One request as an upstream saw it; header names are in lower case."""

    endpoint: str
    method: str
    path: str
    headers: dict[str, str]


@dataclass(slots=True)
class Upstreams:
    """A server per endpoint, all in one thread; `seen` are the requests by the call's `x-call` header."""

    seen: dict[str, list[Received]] = field(default_factory=lambda: defaultdict(list))
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _servers: list[asyncio.Server] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __enter__(self) -> Upstreams:
        self._thread = threading.Thread(target=self._loop.run_forever, name="echo", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(10)
        self._loop.close()

    def add(self, endpoint: str, tls: ssl.SSLContext | None = None) -> int:
        """Starts a server that calls itself ``endpoint`` and says its port."""
        return asyncio.run_coroutine_threadsafe(self._start(endpoint, tls), self._loop).result(10)

    async def _start(self, endpoint: str, tls: ssl.SSLContext | None) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            try:
                while await self._exchange(endpoint, reader, writer):
                    pass
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # the proxy closed the connection
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=MAX_HEAD, ssl=tls)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _exchange(
        self, endpoint: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        await _discard_body(reader, headers)
        request = Received(endpoint, method, path, headers)
        earlier = len(self.seen[headers.get("x-call", "")])
        self.seen[headers.get("x-call", "")].append(request)
        status = await _behave(headers.get("x-echo", ""), endpoint, earlier)
        if status is None:
            return False
        body = json.dumps({"endpoint": endpoint, "path": path}).encode()
        head_out = (
            f"HTTP/1.1 {status} Answer\r\ncontent-length: {len(body)}\r\nx-endpoint: {endpoint}\r\n"
            f"{_peer(writer)}\r\n"
        )
        writer.write(head_out.encode() + (b"" if method == "HEAD" else body))
        await writer.drain()
        return True


def _peer(writer: asyncio.StreamWriter) -> str:
    if writer.get_extra_info("ssl_object") is None:
        return ""
    subject = (writer.get_extra_info("peercert") or {}).get("subject", ())
    names = [value for each in subject for key, value in each if key == "commonName"]
    return f"x-peer: {names[0] if names else 'nobody'}\r\n"


async def _discard_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        while (await reader.readline()).strip():
            pass
    elif "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))


async def _behave(wish: str, endpoint: str, earlier: int) -> int | None:
    """The status to answer with; None closes the connection instead."""
    wishes: dict[str, Any] = dict(part.partition("=")[::2] for part in wish.split(";") if part)
    if wishes.get("only", endpoint) != endpoint:
        return 200
    if "delay" in wishes:
        await asyncio.sleep(float(wishes["delay"]))
    if "fail" in wishes and earlier >= int(wishes["fail"]):
        return 200
    if "reset" in wishes:
        return None
    return int(wishes.get("status", 200))
