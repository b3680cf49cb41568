"""A small HTTP/1.1 server that answers with what it was asked: `echo.py PORT [--version v1]`, for docs and tests.

`GET /anything` answers 200 and JSON: version, method, path, headers, body length, pid. `/status/503` answers with that
status, `/delay/250` after that many milliseconds, `/bytes/1000` with that many bytes, `/health` with "ok".
Bodies may be sized or chunked, requests may be pipelined. SIGTERM: no new connection, a last answer on each open
one, exit 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass, field

MOST_HEAD_BYTES = 64 << 10
LINGER_S = 1.0
"""How long a stopping server still answers on connections that are open but idle, in seconds."""


class Malformed(Exception):
    """What arrived is not HTTP/1.1 as this server reads it."""


@dataclass(slots=True)
class Request:
    """One request; `headers` keep their order and have lower-case names, repeated ones are joined by a comma."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def keeps_alive(self) -> bool:
        """Whether the client lets the connection stay open."""
        return self.headers.get("connection", "").lower() != "close"


@dataclass(slots=True)
class Server:
    """What all connections share."""

    version: str
    stopping: bool = False
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until either side ends it."""
        self.writers.add(writer)
        try:
            while (request := await read_request(reader, writer)) is not None:
                closing = self.stopping or not request.keeps_alive
                writer.write(await self.answer(request, closing=closing))
                await writer.drain()
                if closing:
                    break
        except Malformed as error:
            writer.write(response(400, "text/plain", f"{error}\n".encode(), closing=True))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The client went away, or the process ends: there is nobody left to tell.
        finally:
            self.writers.discard(writer)
            writer.close()

    async def answer(self, request: Request, *, closing: bool) -> bytes:
        """The bytes of the response to `request`."""
        status, kind, body = 200, "application/json", b""
        match request.path.split("?")[0].split("/")[1:]:
            case ["health"]:
                kind, body = "text/plain", b"ok\n"
            case ["status", code] if code.isdigit() and 200 <= int(code) <= 599:
                status, body = int(code), self.describe(request)
            case ["delay", milliseconds] if milliseconds.isdigit():
                await asyncio.sleep(int(milliseconds) / 1000)
                body = self.describe(request)
            case ["bytes", count] if count.isdigit() and int(count) <= 1 << 26:
                kind, body = "application/octet-stream", b"x" * int(count)
            case _:
                body = self.describe(request)
        message = response(status, kind, body, closing=closing)
        return message[: message.index(b"\r\n\r\n") + 4] if request.method == "HEAD" else message

    def describe(self, request: Request) -> bytes:
        """What was asked, as JSON."""
        seen = {
            "version": self.version,
            "method": request.method,
            "path": request.path,
            "headers": request.headers,
            "body_bytes": len(request.body),
            "pid": os.getpid(),
        }
        return json.dumps(seen).encode() + b"\n"


def response(status: int, kind: str, body: bytes, *, closing: bool) -> bytes:
    """One sized response; a 204 or 304 goes without body and length."""
    head = f"HTTP/1.1 {status} {'OK' if status < 400 else 'Error'}\r\n"
    if status in {204, 304}:
        body = b""
    else:
        head += f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    if closing:
        head += "connection: close\r\n"
    return head.encode() + b"\r\n" + body


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request, or None when the client has ended the connection between two."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    except asyncio.LimitOverrunError as error:
        raise Malformed(f"a head may have {MOST_HEAD_BYTES} bytes") from error
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        raise Malformed(f"not a request line: {first!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(f"not a header: {line!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    request = Request(words[0], words[1], headers)
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.body = await read_body(reader, headers)
    return request


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """The request's body, sized or chunked; trailers are read and dropped."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts)
    length = headers.get("content-length", "0")
    if not length.isdigit():
        raise Malformed(f"not a length: {length!r}")
    return await reader.readexactly(int(length))


async def serve(host: str, port: int, version: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    state = Server(version)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(state.connection, host, port, limit=MOST_HEAD_BYTES, backlog=1024)
    print(f"echo {version}: listening on {host}:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    state.stopping = True
    server.close()
    deadline = loop.time() + LINGER_S
    while state.writers and loop.time() < deadline:
        await asyncio.sleep(0.01)
    print(f"echo {version}: stopped", file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="Answer HTTP requests with what they were.")
    parser.add_argument("port", type=int, help="TCP port to listen on; 0 is any free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--version", default="v1", help="what the answers give as `version`")
    options = parser.parse_args()
    asyncio.run(serve(options.host, options.port, options.version))


if __name__ == "__main__":
    main()
