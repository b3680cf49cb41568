"""A raw HTTP/2 client: sends the frames it is told to, right or wrong, and writes down what comes back."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from hpack import Decoder

from attack.wire import Heard, Line, Reply

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Fields = Iterable[tuple[bytes, bytes]]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113 §4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """An HPACK integer (RFC 7541 §5.1) whose first byte has `first` in its upper bits."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = bytearray([first | limit]), value - limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def literal(name: bytes, value: bytes) -> bytes:
    """A literal field that is not indexed: any bytes can be sent so."""
    return b"\x00" + integer(len(name), 7) + name + integer(len(value), 7) + value


def block(fields: Fields) -> bytes:
    """A header block of literals."""
    return b"".join(literal(name, value) for name, value in fields)


def head_frames(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """A header block in frames that are not too large."""
    parts = [payload[at : at + 16_384] for at in range(0, len(payload), 16_384)] or [b""]
    ends = [0] * (len(parts) - 1) + [END_HEADERS]
    first = frame(HEADERS, flags | ends[0], stream, parts[0])
    return first + b"".join(
        frame(CONTINUATION, end, stream, part) for part, end in zip(parts[1:], ends[1:], strict=True)
    )


def setting(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(
        SETTINGS, payload=b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs)
    )


@dataclass(slots=True)
class Stream:
    """What came back on one stream."""

    status: int | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    reset: int | None = None
    ended: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.reset is not None


class Session:
    """One HTTP/2 connection from the client's side."""

    def __init__(self, line: Line, settings: bytes = b"", *, refill: bool = True) -> None:
        self.line = line
        self.streams: dict[int, Stream] = {}
        self.goaway: int | None = None
        self.pongs: list[bytes] = []
        self.settings_seen = 0
        self._refill = refill
        self._decoder = Decoder()
        self._headers: dict[int, bytearray] = {}
        self._next = 1
        line.send(PREFACE + (settings or setting()))

    def new_stream(self) -> int:
        """A stream's number; the stream is watched from now on."""
        number, self._next = self._next, self._next + 2
        self.streams[number] = Stream()
        return number

    def request(self, fields: Fields, data: Iterable[bytes] = (), trailers: Fields | None = None) -> int:
        """Send one request whole."""
        stream, pieces = self.new_stream(), list(data)
        last = not pieces and trailers is None
        out = head_frames(stream, block(fields), END_STREAM if last else 0)
        for number, piece in enumerate(pieces):
            end = trailers is None and number == len(pieces) - 1
            out += frame(DATA, END_STREAM if end else 0, stream, piece)
        if trailers is not None:
            out += head_frames(stream, block(trailers), END_STREAM)
        self.line.send(out)
        return stream

    def until(self, *streams: int) -> None:
        """Read until these streams are over, or the connection is."""
        deadline = time.monotonic() + self.line.patience
        while not all(self.streams[each].over for each in streams) and self.step(deadline):
            pass

    def ping(self, payload: bytes = b"12345678") -> bool:
        """Whether the connection lives: a PING is answered."""
        count = len(self.pongs)
        self.line.send(frame(PING, payload=payload))
        deadline = time.monotonic() + self.line.patience
        while len(self.pongs) == count:
            if not self.step(deadline):
                return False
        return True

    def end(self) -> str:
        """Read until the connection ends and say how."""
        deadline = time.monotonic() + self.line.patience
        while self.step(deadline):
            pass
        return self.line.fate

    def step(self, deadline: float | None = None) -> bool:
        """Take one frame; False when the connection is over, or too slow."""
        line = self.line
        while len(line.kept) < 9 or len(line.kept) < 9 + int.from_bytes(line.kept[:3], "big"):
            if not line.more(deadline):
                return False
        length, kind, flags = int.from_bytes(line.kept[:3], "big"), line.kept[3], line.kept[4]
        stream = int.from_bytes(line.kept[5:9], "big") & 0x7FFFFFFF
        payload, line.kept = line.kept[9 : 9 + length], line.kept[9 + length :]
        self._take(kind, flags, stream, payload)
        return True

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.settings_seen += 1
            self.line.send(frame(SETTINGS, ACK))
        elif kind == PING:
            if flags & ACK:
                self.pongs.append(payload)
            else:
                self.line.send(frame(PING, ACK, payload=payload))
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind in {HEADERS, CONTINUATION}:
            self._head(kind, flags, stream, payload)
        elif kind == DATA and stream in self.streams:
            self.streams[stream].body += payload
            if self._refill and payload:
                update = len(payload).to_bytes(4, "big")
                self.line.send(frame(WINDOW_UPDATE, 0, 0, update) + frame(WINDOW_UPDATE, 0, stream, update))
            self.streams[stream].ended |= bool(flags & END_STREAM)
        elif kind == RST_STREAM and stream in self.streams:
            self.streams[stream].reset = int.from_bytes(payload, "big")

    def _head(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        gathered = self._headers.setdefault(stream, bytearray())
        gathered += payload
        if kind == HEADERS and flags & END_STREAM and stream in self.streams:
            self.streams[stream].ended = True
        if not flags & END_HEADERS:
            return
        fields = [
            (str(name), str(value)) for name, value in self._decoder.decode(bytes(self._headers.pop(stream)))
        ]
        heard = self.streams.get(stream)
        if heard is None:
            return
        if heard.status is None or heard.status < 200:
            heard.status = int(dict(fields)[":status"])
        heard.headers += fields


def heard(session: Session, stream: int) -> Heard:
    """A stream's answer in the terms of outcomes; the fate is the connection's."""
    found = session.streams[stream]
    replies = [] if found.status is None else [Reply(found.status, found.headers, found.body)]
    return Heard(replies, session.line.fate)
