"""Other readers of HTTP/1.1: what h11, Node and Envoy take a run of bytes for."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h11

from attack.positions import Arena
from attack.upstream import Asked
from attack.wire import PATIENCE_S, Line
from harness.proxies import connected

Read = list[tuple[str, str, int]]
"""Whole requests: method, target, length of the body."""

NODE = """
const http = require('http');
const server = http.createServer((request, response) => {
  let length = 0;
  request.on('data', (part) => { length += part.length; });
  request.on('end', () => { response.setHeader('x-read', `${request.method} ${request.url} ${length}`).end(); });
});
server.httpAllowHalfOpen = true;
server.on('clientError', (error, socket) => socket.end());
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
"""


def by_application(requests: list[Asked]) -> Read:
    """As the application behind a proxy understood them."""
    return [(each.method, each.path, len(each.body)) for each in requests if each.complete]


def by_h11(raw: bytes) -> Read:
    """Python's h11."""
    reader, found = h11.Connection(h11.SERVER), Read()
    reader.receive_data(raw)
    with contextlib.suppress(h11.RemoteProtocolError):
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Request):
                method, target, length = event.method.decode(), event.target.decode(), 0
            elif isinstance(event, h11.Data):
                length += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((method, target, length))
                reader.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                reader.send(h11.EndOfMessage())
            elif event is h11.PAUSED and reader.our_state is h11.DONE and reader.their_state is h11.DONE:
                reader.start_next_cycle()
            else:
                break
    return found


@dataclass(frozen=True, slots=True)
class Node:
    """A Node HTTP server that says what it was asked."""

    port: int

    def read(self, raw: bytes) -> Read:
        """As Node's parser, llhttp, understands the bytes."""
        with Line(connected(self.port, PATIENCE_S)) as line:
            line.send(raw)
            line.end()
            line.drain()
            said = re.findall(rb"x-read: ([!-~]+) ([!-~]+) (\d+)\r\n", line.kept)
        return [(method.decode(), target.decode(), int(length)) for method, target, length in said]


@contextlib.contextmanager
def node(folder: Path) -> Iterator[Node]:
    """A running server; it ends with its standard input."""
    script = folder / "reader.js"
    script.write_text(NODE)
    with subprocess.Popen(["node", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Node(int(process.stdout.readline()))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_S)


def by_proxy(arena: Arena, raw: bytes, methods: list[str]) -> Read:
    """As the application behind another proxy understood what that proxy made of the bytes.

    A last request, behind what are believed to be requests of these methods, shows that all of them were read.
    """
    arena.application.forget()
    with arena.connect() as line:
        line.send(raw + f"GET {LAST} HTTP/1.1\r\nHost: {arena.host}\r\n\r\n".encode())
        for method in [*methods, "GET"]:
            line.read_reply(method)
    found = by_application(arena.application.snapshot().requests)
    return found[:-1] if found and found[-1][1] == LAST else found


LAST = "/last"
