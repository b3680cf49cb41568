"""A client that sends exactly the bytes it is given and says what came back, on a blocking socket."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

PATIENCE_S = 12.0
"""How long a client waits for what it expects; nothing is expected to take long."""

CLOSED, OPEN, RESET, SILENT = "closed", "open", "reset", "silent"


@dataclass(slots=True)
class Reply:
    """One response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def value(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(slots=True)
class Heard:
    """What came back on one connection, and how it stands: closed, reset, open, or silent where more was awaited."""

    replies: list[Reply] = field(default_factory=list)
    fate: str = OPEN
    rest: bytes = b""

    @property
    def statuses(self) -> list[int]:
        """Of the final responses."""
        return [reply.status for reply in self.replies if reply.status >= 200 or reply.status == 101]


class Line:
    """One connection."""

    def __init__(self, sock: socket.socket, patience: float = PATIENCE_S) -> None:
        self.sock = sock
        self.patience = patience
        self.kept = b""
        self.fate = OPEN
        sock.settimeout(patience)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of it, unless the peer has had enough."""
        with contextlib.suppress(OSError):  # What the peer said before it went can still be read.
            self.sock.sendall(data)

    def end(self) -> None:
        """Close the writing half."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """End with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def more(self, deadline: float | None = None) -> bool:
        """Read once; False at the end, of which `fate` then says the manner."""
        left = self.patience if deadline is None else max(0.001, deadline - time.monotonic())
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(1 << 16)
        except TimeoutError:
            self.fate = SILENT
            return False
        except OSError:
            self.fate = RESET
            return False
        if not data:
            self.fate = CLOSED
            return False
        self.kept += data
        return True

    def read_reply(self, method: str = "GET") -> Reply | None:
        """The next final response, interim ones dropped; None when there is none."""
        deadline = time.monotonic() + self.patience
        while True:
            while b"\r\n\r\n" not in self.kept:
                if not self.more(deadline):
                    return None
            head, _, self.kept = self.kept.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            fields = [
                (name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)
            ]
            reply = Reply(int(first.split(" ")[1]), fields)
            if reply.status >= 200 or reply.status == 101:
                break
        if reply.status != 101 and method != "HEAD" and reply.status not in {204, 304}:
            reply.body = self._body(reply, deadline)
        return reply

    def _body(self, reply: Reply, deadline: float) -> bytes:
        length = reply.value("content-length")
        if length is not None:
            return self.exactly(int(length), deadline)
        if reply.value("transfer-encoding") is None:
            while self.more(deadline):
                pass
            body, self.kept = self.kept, b""
            return body
        return self._chunks(deadline)

    def _chunks(self, deadline: float) -> bytes:
        body = b""
        while True:
            found = re.match(rb"([0-9a-fA-F]+)[^\r]*\r\n", self.kept)
            if found is None:
                if not self.more(deadline):
                    return body
                continue
            size = int(found.group(1), 16)
            self.kept = self.kept[found.end() :]
            body += self.exactly(size + 2, deadline)[:size]
            if size == 0:
                return body

    def exactly(self, count: int, deadline: float | None = None) -> bytes:
        """So many bytes, or as many as came."""
        while len(self.kept) < count and self.more(deadline):
            pass
        taken, self.kept = self.kept[:count], self.kept[count:]
        return taken

    def drain(self) -> str:
        """Read to the end and say how it ended."""
        deadline = time.monotonic() + self.patience
        while self.more(deadline):
            pass
        return self.fate


def converse(line: Line, parts: Iterable[bytes], expected: int) -> Heard:
    """Send the parts, read `expected` final responses, and see what becomes of the connection if the last one closes.

    With nothing expected it is read until it ends.
    """
    heard = Heard()
    for part in parts:
        line.send(part)
    wanted = max(expected, 1)
    while len(heard.replies) < wanted:
        reply = line.read_reply()
        if reply is None:
            heard.fate = line.fate
            heard.rest = line.kept
            return heard
        heard.replies.append(reply)
        if reply.value("connection") == "close":
            break
    last = heard.replies[-1]
    if last.value("connection") == "close" or expected == 0:
        heard.fate = line.drain()
    heard.rest = line.kept
    return heard
