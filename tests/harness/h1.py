"""Reads HTTP/1.1 messages as they are on the wire, leniently and without changing them, for both ends of the proxy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]


class NotHttp(Exception):
    """The bytes are not an HTTP/1 message; the text says which."""


@dataclass(slots=True)
class Message:
    """A message: its first line, headers in order with lower-case names, body, trailers, the body's framing.

    `names` are the headers' names as they came.
    """

    first: str
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    framing: str = "none"
    names: tuple[str, ...] = ()

    def value(self, name: str) -> str | None:
        """The first header called `name`."""
        return next((text for key, text in self.headers if key == name), None)

    @property
    def status(self) -> int:
        """A response's status code."""
        return int(self.first.split(" ")[1])


async def read_head(reader: asyncio.StreamReader) -> Message | None:
    """The next head, or None at the end of the stream before its first byte."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise NotHttp(f"ends inside a head: {error.partial[:200]!r}") from error
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    return Message(first, _headers(lines), names=tuple(line.partition(":")[0] for line in lines))


async def read_body(reader: asyncio.StreamReader, message: Message, *, until_close: bool) -> None:
    """Fill in the body by the head's framing; a message that has none ends at the close if `until_close`."""
    if (message.value("transfer-encoding") or "").lower().endswith("chunked"):
        message.framing = "chunked"
        await _read_chunks(reader, message)
    elif (length := message.value("content-length")) is not None:
        message.framing = "length"
        message.body = await reader.readexactly(int(length))
    elif until_close:
        message.framing = "close"
        message.body = await reader.read(-1)


async def _read_chunks(reader: asyncio.StreamReader, message: Message) -> None:
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    message.body = b"".join(parts)
    lines = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        lines.append(line[:-2].decode("latin-1"))
    message.trailers = _headers(lines)


def _headers(lines: list[str]) -> Headers:
    found = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise NotHttp(f"not a header line: {line!r}")
        found.append((name.lower(), value.strip(" \t")))
    return found


def has_body(method: str, status: int) -> bool:
    """Whether a response with `status` to `method` has a body at all (RFC 9112 §6.3)."""
    return (
        method != "HEAD"
        and status >= 200
        and status not in {204, 304}
        and not (method == "CONNECT" and status < 300)
    )
