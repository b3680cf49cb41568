"""The ADS gRPC service: a session for each stream, wake-ups coalesced, slow streams delay only themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from tulle.buckets import Buckets
from tulle.delivery.contract import Authorize, Node, Peer, SnapshotSource, Subscription
from tulle.delivery.delta import DeltaSession
from tulle.delivery.session import Nack, Push
from tulle.delivery.sotw import SotwSession
from tulle.delivery.status import Connection, Refusal, StatusRegistry
from tulle.delivery.wire import delta_response, parse_delta, parse_sotw, sotw_response


@dataclass(frozen=True, slots=True)
class Service:
    """A discovery service: its full name and the names of its two methods."""

    name: str
    delta: str
    sotw: str


ADS = Service(
    "envoy.service.discovery.v3.AggregatedDiscoveryService",
    "DeltaAggregatedResources",
    "StreamAggregatedResources",
)
SDS = Service("envoy.service.secret.v3.SecretDiscoveryService", "DeltaSecrets", "StreamSecrets")

FIRST_REQUEST_SECONDS = 30.0
"""How long a client may take to say who it is."""

STREAMS_PER_SECOND, STREAMS_AT_ONCE = 2.0, 100.0
"""By peer and node: who comes back more often must wait, and costs nobody else anything."""

ADMITTED_PER_SECOND, ADMITTED_AT_ONCE = 200.0, 400.0
"""All peers together: when a thousand come back at once, the others wait for their turn, and those who are in are
served meanwhile."""

ADMISSION_LOOK = 0.02
"""Seconds between looks of the stream whose turn is next."""

REQUESTS_PER_SECOND, REQUESTS_AT_ONCE = 200.0, 10_000.0
"""On one stream: a client that refuses what it is sent again and again cannot keep the control plane busy."""

DRAIN_MARGIN = 0.5
"""Seconds beyond its drain time in which a client's workers have closed what they had to."""

MAX_TYPES = 64
"""How many resource types one stream may ask for: above what exists, low enough to bound a hostile client."""


@dataclass(frozen=True, slots=True)
class _Variant:
    """One of the two protocols: how to make its session, read its requests and write its responses."""

    name: str
    session: Callable[[], Any]
    parse: Callable[[bytes], tuple[Any, Node | None]]
    response: Callable[[Push], bytes]


_DELTA = _Variant("delta", DeltaSession, parse_delta, delta_response)
_SOTW = _Variant("sotw", SotwSession, parse_sotw, sotw_response)


def peer_by_certificate(context: Any) -> Peer | None:
    """Who the client's certificate says it is. gRPC gives a SPIFFE id only for exactly one valid URI SAN."""
    ids = context.auth_context().get("peer_spiffe_id", ())
    return Peer(ids[0].decode(), context.peer().partition(":")[2]) if len(ids) == 1 else None


class AdsServer:
    """Serves snapshots to the peers that `authorize` lets in. Belongs to one event loop.

    `peer_of` says from a call's gRPC context who the client has proved to be; None is refused.
    """

    def __init__(
        self,
        source: SnapshotSource,
        authorize: Authorize,
        registry: StatusRegistry,
        service: Service = ADS,
        peer_of: Callable[[Any], Peer | None] = peer_by_certificate,
    ) -> None:
        self.source = source
        self.authorize = authorize
        self.registry = registry
        self.peer_of = peer_of
        self._service = service
        self.limit = Buckets(STREAMS_PER_SECOND, STREAMS_AT_ONCE)
        self.admission = Buckets(ADMITTED_PER_SECOND, ADMITTED_AT_ONCE)
        self.waiting = 0
        """How many streams wait to be admitted."""
        self._turn = asyncio.Lock()
        self._streams: set[_Stream] = set()
        self._closed = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers the two methods with a server."""
        methods = {
            self._service.delta: grpc.stream_stream_rpc_method_handler(self._delta),
            self._service.sotw: grpc.stream_stream_rpc_method_handler(self._sotw),
        }
        handler = grpc.method_handlers_generic_handler(self._service.name, methods)
        server.add_generic_rpc_handlers((handler,))

    def close(self) -> None:
        """Ends all streams in order (status OK), so that the server can stop without waiting for them."""
        self._closed = True
        for stream in self._streams:
            stream.wake.set()

    @property
    def closed(self) -> bool:
        return self._closed

    async def admit(self) -> None:
        """Returns when it is this stream's turn: first come, first served."""
        self.waiting += 1
        try:
            async with self._turn:
                while not self.admission.take("", time.monotonic()) and not self._closed:
                    await asyncio.sleep(ADMISSION_LOOK)
        finally:
            self.waiting -= 1

    def reauthorize(self) -> None:
        """Looks again at every stream's right to go on; those that have lost it end at once."""
        for stream in self._streams:
            stream.wake.set()

    async def _delta(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await self._serve(_DELTA, requests, context)

    async def _sotw(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await self._serve(_SOTW, requests, context)

    async def _serve(self, variant: _Variant, requests: AsyncIterator[bytes], context: Any) -> None:
        stream = _Stream(self, variant, requests, context)
        self._streams.add(stream)
        try:
            await stream.run()
        except _StreamError as error:
            await context.abort(error.code, error.message)
        finally:
            self._streams.discard(stream)


class _StreamError(Exception):
    """Ends a stream with a gRPC status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Stream:
    """One client's stream: a task that reads requests, and a loop that writes pushes."""

    def __init__(
        self, server: AdsServer, variant: _Variant, requests: AsyncIterator[bytes], context: Any
    ) -> None:
        self.wake = asyncio.Event()
        self._server = server
        self._variant = variant
        self._requests = requests
        self._context = context
        self._session = variant.session()

    async def run(self) -> None:
        first = await self._first()
        if first is None:
            return
        request, node = first
        if node is None or not node.id:
            raise _StreamError(grpc.StatusCode.INVALID_ARGUMENT, "the first request needs a node with an id")
        peer = self._server.peer_of(self._context)
        if peer is None:
            raise _StreamError(grpc.StatusCode.UNAUTHENTICATED, "a certificate with a SPIFFE id is required")
        self._authorize(node, peer)
        self._session.drains = node.drain_seconds > 0
        if not self._server.limit.take(f"{peer.spiffe_id} {node.id}", time.monotonic()):
            raise _StreamError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams: wait and try again")
        await self._server.admit()
        # A client that has everything already is sent nothing more, and still learns that it is let in.
        await self._context.send_initial_metadata(())
        connection = Connection(node, peer, self._variant.name, time.time(), self._session)
        subscription = self._server.source.open(node, peer, self.wake.set)
        self._server.registry.add(connection)
        self._session.receive(request)
        self.wake.set()
        reader = asyncio.create_task(self._read(connection))
        reader.add_done_callback(self._reader_ended)
        try:
            await self._write(reader, connection, subscription)
        finally:
            reader.cancel()
            self._server.registry.remove(connection)
            subscription.close()

    async def _first(self) -> tuple[Any, Node | None] | None:
        try:
            async with asyncio.timeout(FIRST_REQUEST_SECONDS):
                async for data in self._requests:
                    return self._parse(data)
        except TimeoutError:
            raise _StreamError(grpc.StatusCode.DEADLINE_EXCEEDED, "no request came") from None
        return None

    async def _read(self, connection: Connection) -> None:
        limit = Buckets(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE)
        async for data in self._requests:
            if not limit.take("", time.monotonic()):
                raise _StreamError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests on one stream")
            request, _ = self._parse(data)
            nack: Nack | None = self._session.receive(request)
            if nack is not None:
                connection.refusal = Refusal(nack, time.time())
            if len(self._session.types) > MAX_TYPES:
                raise _StreamError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {MAX_TYPES} types")
            self.wake.set()

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        # Looked at here, so that it counts as seen when the stream has ended for another reason meanwhile.
        if not reader.cancelled():
            reader.exception()
        self.wake.set()

    async def _write(
        self, reader: asyncio.Task[None], connection: Connection, subscription: Subscription
    ) -> None:
        while not self._server.closed:
            await self.wake.wait()
            self.wake.clear()
            if reader.done():
                reader.result()
                return
            # A workload that is no longer registered must not go on reading until it reconnects.
            self._authorize(connection.node, connection.peer)
            self._session.update(subscription.current())
            while (push := self._session.next_push()) is not None:
                # Waits for this client's flow control only. Changes meanwhile are merged by the session.
                await self._context.write(self._variant.response(push))
            for _ in range(self._session.drains_begun()):
                after = connection.node.drain_seconds + DRAIN_MARGIN
                asyncio.get_running_loop().call_later(after, self._drained)

    def _drained(self) -> None:
        self._session.drained()
        self.wake.set()

    def _authorize(self, node: Node, peer: Peer) -> None:
        refusal = self._server.authorize(node, peer)
        if refusal is not None:
            raise _StreamError(grpc.StatusCode.PERMISSION_DENIED, refusal)

    def _parse(self, data: bytes) -> tuple[Any, Node | None]:
        try:
            return self._variant.parse(data)
        except DecodeError as error:
            raise _StreamError(grpc.StatusCode.INVALID_ARGUMENT, f"no discovery request: {error}") from error
