"""Endpoints that can fail in every way a chaos test asks for, and a load of requests that says what became of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from harness import h1

Mood = Literal["fine", "failing", "hanging", "breaking"]


@dataclass(slots=True)
class Endpoint:
    """An HTTP/1.1 server on 127.0.0.1.

    `mood`: it answers 200 with its name, answers 503, never answers, or breaks off in the middle of a body.
    """

    name: str
    mood: Mood = "fine"
    asked: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Listen: on the port it had before, if it had one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """As a process that is killed: nobody listens any more, and every connection is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (head := await h1.read_head(reader)) is not None:
                await h1.read_body(reader, head, until_close=False)
                self.asked += 1
                if not await self._answer(writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, h1.NotHttp):
            pass  # The proxy, or the test, has ended the connection.
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter) -> bool:
        """False when the connection is to end."""
        if self.mood == "hanging":
            await asyncio.Event().wait()
        body = self.name.encode()
        length = len(body) + (10 if self.mood == "breaking" else 0)
        status = 503 if self.mood == "failing" else 200
        writer.write(f"HTTP/1.1 {status} Some\r\ncontent-length: {length}\r\n\r\n".encode() + body)
        await writer.drain()
        return self.mood != "breaking"


@asynccontextmanager
async def fleet(count: int) -> AsyncIterator[list[Endpoint]]:
    """So many endpoints, named e0, e1, …"""
    endpoints = [Endpoint(f"e{number}") for number in range(count)]
    try:
        for endpoint in endpoints:
            await endpoint.start()
        yield endpoints
    finally:
        for endpoint in endpoints:
            await endpoint.kill()


@dataclass(slots=True)
class Tally:
    """What became of requests: by status (0: no whole answer), and how many each endpoint answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    bodies: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return self.statuses.total()

    @property
    def errors(self) -> int:
        """All that were not answered 200."""
        return self.total - self.statuses[200]


class Client:
    """One client with one connection, made anew when it was closed."""

    def __init__(self, port: int, tally: Tally) -> None:
        self.port, self.tally = port, tally
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, path: str = "/") -> int:
        """The status of one GET; 0 when no whole answer came."""
        status, body = 0, ""
        try:
            message = await self._exchange(path)
            status, body = message.status, message.body.decode("latin-1")
        except (ConnectionError, asyncio.IncompleteReadError, h1.NotHttp):
            self.close()
        self.tally.statuses[status] += 1
        self.tally.bodies[body] += 1
        return status

    async def _exchange(self, path: str) -> h1.Message:
        if self.reader is None or self.writer is None or self.reader.at_eof():
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        message = await h1.read_head(self.reader)
        if message is None:
            raise ConnectionResetError("closed before the answer")
        await h1.read_body(self.reader, message, until_close=False)
        if message.value("connection") == "close":
            self.close()
        return message

    def close(self) -> None:
        """End the connection."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def load(port: int, requests: int, clients: int = 8) -> Tally:
    """`requests` GETs by so many clients at once, each with a connection of its own."""
    tally = Tally()
    left = iter(range(requests))

    async def work() -> None:
        client = Client(port, tally)
        for _ in left:
            await client.ask()
        client.close()

    await asyncio.gather(*(work() for _ in range(clients)))
    return tally


async def until(port: int, wanted: int, tries: int = 2000) -> int:
    """Ask until the answer is `wanted`; how many requests that took. Raises AssertionError after `tries`."""
    client = Client(port, Tally())
    try:
        for number in range(1, tries + 1):
            if await client.ask() == wanted:
                return number
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    finally:
        client.close()
    raise AssertionError(f"never {wanted}: {client.tally.statuses}")
