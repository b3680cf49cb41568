"""The application behind the proxy: it keeps every byte that reaches it, and answers as the request's path asks.

`/early…` is answered before its body is read, `/switch…` with 101 and an echo, `/hang…` never, `/surplus…` with bytes
behind the answer, `/large…` with more than buffers hold; everything else with 200 and what was asked for.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from dataclasses import dataclass, field, replace

from harness import h1

Fields = list[tuple[str, str]]

LARGE = 64 << 20
"""Bytes of a large answer."""
PIECE = bytes(1 << 16)


@dataclass(slots=True)
class Asked:
    """One request as the application understood it."""

    method: str
    path: str
    headers: Fields
    connection: int
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    complete: bool = False

    def values(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]


@dataclass(slots=True)
class Recording:
    """What has come since `forget`: requests in order of arrival, and raw bytes by connection."""

    requests: list[Asked] = field(default_factory=list)
    raw: dict[int, bytearray] = field(default_factory=dict)

    def all_bytes(self) -> bytes:
        """Everything, connection after connection."""
        return b"".join(bytes(part) for part in self.raw.values())


@dataclass(slots=True)
class Application:
    """Servers that all do the same, in one thread of their own."""

    recording: Recording = field(default_factory=Recording)
    cut: set[str] = field(default_factory=set)
    """Paths of large answers of which the proxy did not take all."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _servers: list[asyncio.Server] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _connections: int = 0

    def __enter__(self) -> Application:
        self._thread = threading.Thread(target=self._loop.run_forever, name="application", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(10)
        self._loop.close()

    def add(self, _endpoint: str, tls: ssl.SSLContext | None = None) -> int:
        """Start a server and say its port."""
        return asyncio.run_coroutine_threadsafe(self._start(tls), self._loop).result(10)

    def forget(self) -> None:
        """Begin a new recording."""

        async def fresh() -> None:
            self.recording = Recording()

        asyncio.run_coroutine_threadsafe(fresh(), self._loop).result(10)

    def snapshot(self) -> Recording:
        """What has been recorded, at one moment."""

        async def copied() -> Recording:
            raw = {number: bytearray(part) for number, part in self.recording.raw.items()}
            return Recording([replace(each) for each in self.recording.requests], raw)

        return asyncio.run_coroutine_threadsafe(copied(), self._loop).result(10)

    async def _start(self, tls: ssl.SSLContext | None) -> int:
        server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, limit=1 << 20, ssl=tls, backlog=1024
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        number = self._connections
        heard = _Recorded(reader, self, number)
        try:
            while await self._exchange(heard, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, h1.NotHttp, ValueError):
            pass  # The proxy ended the connection, or said what is no HTTP; what it said is kept.
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _exchange(self, reader: _Recorded, writer: asyncio.StreamWriter, number: int) -> bool:
        head = await h1.read_head(reader)  # type: ignore[arg-type]
        if head is None:
            return False
        method, path, _ = head.first.split(" ", 2)
        asked = Asked(method, path, head.headers, number)
        self.recording.requests.append(asked)
        if path.startswith("/hang"):
            await reader.read(1 << 16)
            return True
        if path.startswith("/early"):
            await _answer(writer, "early\n")
        if path.startswith("/switch"):
            await _switch(reader, writer)
            return False
        await h1.read_body(reader, head, until_close=False)  # type: ignore[arg-type]
        asked.body, asked.trailers, asked.complete = head.body, head.trailers, True
        if path.startswith("/large"):
            await self._answer_at_length(writer, path)
        elif not path.startswith("/early"):
            # in one piece: a proxy cannot tell what comes when it has asked again from an answer to that
            surplus = ["surplus\n"] if path.startswith("/surplus") else []
            await _answer(writer, f"{method} {path}\n", *surplus, method=method)
        return True

    async def _answer_at_length(self, writer: asyncio.StreamWriter, path: str) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n".encode())
        try:
            for _ in range(LARGE // len(PIECE)):
                writer.write(PIECE)
                await writer.drain()
        except ConnectionError:
            self.cut.add(path)
            raise


async def _answer(writer: asyncio.StreamWriter, *texts: str, method: str = "GET") -> None:
    heads = [f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n" for text in texts]
    bodies = ["" if method == "HEAD" else text for text in texts]
    writer.write("".join(head + body for head, body in zip(heads, bodies, strict=True)).encode())
    await writer.drain()


async def _switch(reader: _Recorded, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@dataclass(slots=True)
class _Recorded:
    """A reader that writes down what it reads: what has come is taken in whole, and kept until it is asked for."""

    reader: asyncio.StreamReader
    application: Application
    number: int
    kept: bytes = b""

    async def _more(self) -> bool:
        data = await self.reader.read(1 << 18)
        raw = self.application.recording.raw
        raw.setdefault(self.number, bytearray()).extend(data)
        self.kept += data
        return bool(data)

    async def read(self, count: int) -> bytes:
        if not self.kept and not await self._more():
            return b""
        taken, self.kept = self.kept[:count], self.kept[count:]
        return taken

    async def readexactly(self, count: int) -> bytes:
        while len(self.kept) < count:
            if not await self._more():
                raise asyncio.IncompleteReadError(self.kept, count)
        taken, self.kept = self.kept[:count], self.kept[count:]
        return taken

    async def readuntil(self, separator: bytes) -> bytes:
        while separator not in self.kept:
            if not await self._more():
                raise asyncio.IncompleteReadError(self.kept, None)
        end = self.kept.index(separator) + len(separator)
        taken, self.kept = self.kept[:end], self.kept[end:]
        return taken
