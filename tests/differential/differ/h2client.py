"""The HTTP/2 client: opens a call's streams on one connection and writes down how each of them ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from differ.case import Call, H2Request
from differ.client import PATIENCE_S, Way, connect
from differ.h2upstream import _text
from differ.pki import Pki
from differ.record import Answer, Seen, interim


@dataclass(slots=True)
class _Client:
    wire: h2.connection.H2Connection
    writer: asyncio.StreamWriter
    answers: dict[int, Answer] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    async def flush(self) -> None:
        self.writer.write(self.wire.data_to_send())
        await self.writer.drain()

    def start(self, request: H2Request) -> int:
        """Send one request whole; returns its stream."""
        stream = self.wire.get_next_available_stream_id()
        pseudo = [
            (":method", request.method),
            (":scheme", "http"),
            (":path", request.path),
            (":authority", request.authority),
        ]
        if request.protocol is not None:
            pseudo.append((":protocol", request.protocol))
        elif request.method == "CONNECT":
            pseudo = [(":method", "CONNECT"), (":authority", request.authority)]
        bodies = [b"\x00" + len(text).to_bytes(4, "big") + text.encode() for text in request.grpc]
        if request.body is not None:
            bodies.append(request.body.encode())
        endless = request.reset_after is not None
        self.wire.send_headers(
            stream,
            [*pseudo, *request.headers],
            end_stream=not bodies and not request.trailers and not endless,
        )
        for body in bodies:
            last = body is bodies[-1] and not request.trailers and not endless
            self.wire.send_data(stream, body, end_stream=last)
        if request.trailers:
            self.wire.send_headers(stream, list(request.trailers), end_stream=True)
        self.answers[stream] = Answer(0, [], end="none")
        self.open.add(stream)
        return stream

    def on_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                headers = _text(event.headers)
                answer = self.answers[event.stream_id]
                answer.status = int(dict(headers)[":status"])
                answer.headers = [(name, value) for name, value in headers if name != ":status"]
            case h2.events.InformationalResponseReceived():
                answer = self.answers[event.stream_id]
                headers = _text(event.headers)
                fields = [each for each in headers if each[0] != ":status"]
                answer.interim = (*answer.interim, interim(int(dict(headers)[":status"]), fields))
            case h2.events.DataReceived():
                self.answers[event.stream_id].body += event.data
                self.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self.answers[event.stream_id].trailers = _text(event.headers)
            case h2.events.StreamEnded():
                self.finish(event.stream_id, "complete")
            case h2.events.StreamReset():
                self.finish(event.stream_id, f"reset {int(event.error_code)}")
            case h2.events.ConnectionTerminated():
                self.ended = True
            case _:
                pass

    def finish(self, stream: int, end: str) -> None:
        if stream in self.open:
            self.open.discard(stream)
            self.answers[stream].end = end
        if not self.open:
            self.settled.set()


async def run_streams(call: Call, way: Way, pki: Pki) -> Seen:
    """Open the call's streams, all at once, and wait for the end of each."""
    seen = Seen()
    try:
        reader, writer = await connect(call, way, pki)
    except OSError:
        seen.fate = "refused"
        return seen
    seen.ports.append(writer.get_extra_info("sockname")[1])
    config = h2.config.H2Configuration(
        client_side=True,
        header_encoding="latin-1",
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    client = _Client(h2.connection.H2Connection(config), writer)
    client.wire.initiate_connection()
    giving_up = [(client.start(request), request.reset_after) for request in call.streams]
    await client.flush()
    later = [
        asyncio.create_task(_give_up(client, stream, after))
        for stream, after in giving_up
        if after is not None
    ]
    pump = asyncio.create_task(_pump(client, reader))
    settled = asyncio.create_task(client.settled.wait())
    await asyncio.wait({pump, settled}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    seen.fate = _fate(client, pump)
    for task in (*later, pump, settled):
        task.cancel()
    await asyncio.gather(*later, pump, settled, return_exceptions=True)
    writer.close()
    seen.answers = [client.answers[stream] for stream in sorted(client.answers)]
    return seen


def _fate(client: _Client, pump: asyncio.Task[None]) -> str:
    if not pump.done():
        return "silent" if client.open else "open"
    if pump.exception() is not None:
        return "reset"
    if client.open:
        return "closed"
    return "goaway" if client.ended else "open"


async def _pump(client: _Client, reader: asyncio.StreamReader) -> None:
    while client.open and (data := await reader.read(1 << 16)):
        for event in client.wire.receive_data(data):
            client.on_event(event)
        await client.flush()


async def _give_up(client: _Client, stream: int, after: int) -> None:
    await asyncio.sleep(after / 1000)
    if stream in client.open:
        client.wire.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        client.finish(stream, "given up")
        await client.flush()
