"""The HTTP/2 upstream: prior knowledge or ALPN, unary and streaming gRPC, resets, GOAWAY.

`asked` answers a gRPC call with the one of the upstream's replies whose name stands in the message: the name of the
message's type, then its fields as JSON. So one service answers each call of a case as the call says.
`now=304:5` is answered at once, here with a length of 5 and no body; `deaf` reads nothing more of its connection.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from differ.record import Received
from differ.upstreams import HANG_S, Server, abort, behaviour_of
from tulle.protos import from_dict, serialize

GRPC_OK = [("grpc-status", "0"), ("grpc-message", "")]


@dataclass(slots=True)
class _Stream:
    entry: Received
    name: str
    value: str
    grpc: bool
    answered: bool = False


@dataclass(slots=True)
class _Connection:
    server: Server
    writer: asyncio.StreamWriter
    number: int
    wire: h2.connection.H2Connection
    streams: dict[int, _Stream] = field(default_factory=dict)
    later: set[asyncio.Task[None]] = field(default_factory=set)

    async def flush(self) -> None:
        self.writer.write(self.wire.data_to_send())
        await self.writer.drain()

    async def on_event(self, event: h2.events.Event) -> bool:
        """Act on one event; False when the connection is to end."""
        match event:
            case h2.events.RequestReceived():
                return await self.on_request(event)
            case h2.events.DataReceived():
                await self.on_data(event)
            case h2.events.TrailersReceived():
                self.streams[event.stream_id].entry.trailers = _text(event.headers)
            case h2.events.StreamEnded():
                await self.on_end(event.stream_id)
            case h2.events.StreamReset():
                stream = self.streams.pop(event.stream_id, None)
                if stream is not None:
                    stream.entry.trailers.append((":reset", str(int(event.error_code))))
            case _:
                pass
        return True

    async def on_request(self, event: h2.events.RequestReceived) -> bool:
        headers = _text(event.headers)
        plain = dict(headers)
        entry = Received(
            self.server.name, "h2", plain[":method"], plain.get(":path", ""), headers, connection=self.number
        )
        name, value = behaviour_of(self.server.recorder.add(entry, plain.get("x-do")))
        grpc = plain.get("content-type", "").startswith("application/grpc")
        self.streams[event.stream_id] = _Stream(entry, name, value, grpc)
        if name == "refuse":
            self.wire.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
        elif name == "rst":
            self.wire.reset_stream(event.stream_id, int(value or 2))
        elif name == "reset":
            abort(self.writer)
            return False
        elif name == "echo":
            self.head(event.stream_id, 200)
        elif name == "interim":
            extra = [("link", "</s.css>")] if value == "103" else []
            self.wire.send_headers(event.stream_id, [(":status", value), *extra])
        elif name == "now":
            code, _, length = value.partition(":")
            sized = [("content-length", length)] if length else []
            self.head(event.stream_id, int(code), extra=sized, end=True)
        elif name == "deaf":
            await self.flush()
            await asyncio.sleep(HANG_S)
            return False
        elif name == "goaway":
            self.wire.close_connection(last_stream_id=event.stream_id)
        return True

    async def on_data(self, event: h2.events.DataReceived) -> None:
        stream = self.streams[event.stream_id]
        stream.entry.body += event.data
        self.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if stream.name == "echo" and event.data:
            self.wire.send_data(event.stream_id, event.data)

    async def on_end(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None or stream.name in {"hang", "refuse", "rst", "goaway", "now"}:
            return
        if stream.name == "delay":
            task = asyncio.create_task(self.answer_later(stream_id, int(stream.value) / 1000))
            self.later.add(task)
            task.add_done_callback(self.later.discard)
            return
        self.answer(stream_id, stream)

    async def answer_later(self, stream_id: int, delay: float) -> None:
        await asyncio.sleep(delay)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.answer(stream_id, stream)
            await self.flush()

    def answer(self, stream_id: int, stream: _Stream) -> None:
        """The whole response, or for `echo` its end."""
        if stream.name == "echo":
            self.trailers_or_end(stream_id, stream)
            return
        if stream.name == "trailers-only":
            status = [("grpc-status", stream.value or "0"), ("grpc-message", "only")]
            self.head(stream_id, 200, grpc=True, extra=status, end=True)
            return
        code = int(stream.value) if stream.name == "status" else 200
        entry = stream.entry
        body = b"" if entry.method == "HEAD" else f"{self.server.name} {entry.method} {entry.path}\n".encode()
        if stream.name == "asked":
            body = self.reply(entry.body)
        if stream.name == "message":
            body = base64.b64decode(self.server.spec.replies[stream.value])
        if stream.grpc:
            body = b"\x00" + len(body).to_bytes(4, "big") + body
        sized = [("content-length", str(len(body)))] if stream.name == "sized" else []
        self.head(stream_id, code, grpc=stream.grpc, extra=sized)
        self.wire.send_data(stream_id, body)
        if stream.name == "rst-mid":
            self.wire.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
            return
        self.trailers_or_end(stream_id, stream)

    def reply(self, message: bytes) -> bytes:
        """The answer that the message asks for."""
        (text,) = (text for name, text in self.server.spec.replies.items() if name.encode() in message)
        kind, _, fields = text.partition(" ")
        return bytes(serialize(from_dict(kind, json.loads(fields))))

    def trailers_or_end(self, stream_id: int, stream: _Stream) -> None:
        if stream.name == "grpc":
            self.wire.send_headers(
                stream_id, [("grpc-status", stream.value), ("grpc-message", "asked")], end_stream=True
            )
        elif stream.grpc:
            self.wire.send_headers(stream_id, GRPC_OK, end_stream=True)
        elif stream.name == "trailers":
            self.wire.send_headers(stream_id, [("x-trailer", "yes")], end_stream=True)
        else:
            self.wire.end_stream(stream_id)

    def head(
        self,
        stream_id: int,
        code: int,
        *,
        grpc: bool = False,
        extra: list[tuple[str, str]] | None = None,
        end: bool = False,
    ) -> None:
        kind = [("content-type", "application/grpc")] if grpc or self.streams[stream_id].grpc else []
        headers = [(":status", str(code)), ("x-upstream", self.server.name), *kind, *(extra or [])]
        self.wire.send_headers(stream_id, headers, end_stream=end)


def _text(headers: object) -> list[tuple[str, str]]:
    assert isinstance(headers, list)
    return [(_one(name), _one(value)) for name, value in headers]


def _one(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


async def serve_h2(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer HTTP/2 streams on one connection."""
    config = h2.config.H2Configuration(
        client_side=False, header_encoding="latin-1", validate_inbound_headers=False
    )
    state = _Connection(server, writer, server.connection(), h2.connection.H2Connection(config))
    state.wire.local_settings.update({h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    state.wire.local_settings.acknowledge()
    state.wire.initiate_connection()
    await state.flush()
    try:
        while data := await reader.read(1 << 16):
            for event in state.wire.receive_data(data):
                if not await state.on_event(event):
                    return
            await state.flush()
    except h2.exceptions.ProtocolError:
        await state.flush()
    finally:
        for task in state.later:
            task.cancel()
