"""Where the webhook listens: HTTPS, few connections, and a time limit on everything that a client can be slow at.

A stranger costs a handshake and one refused request. When there are too many connections, those go first that have
waited longest without having shown who they are, so that strangers keep nobody out who may come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

MOST_CONNECTIONS = 64
"""Each costs a quarter of a megabyte, most of it for TLS."""

HANDSHAKE_SECONDS, HEAD_SECONDS, CLOSING_SECONDS = 5.0, 5.0, 2.0
IDLE_SECONDS = 90.0
"""As long as Go's HTTP clients keep a connection for later."""

MAX_HEAD = 32 * 1024
PAUSE = 0.1
"""Seconds to wait when the process has no file descriptor left."""

log = logging.getLogger(__name__)

_quiet = logging.getLogger(f"{__name__}.http")
# What clients send that is no HTTP is their affair; it must not fill our log.
_quiet.setLevel(logging.ERROR)


@dataclass(slots=True)
class WebhookPort:
    """A listening socket with its application and TLS. ``state`` is uvicorn's own."""

    listener: socket.socket
    context: ssl.SSLContext
    config: uvicorn.Config
    state: ServerState = field(default_factory=ServerState)
    visits: dict[asyncio.Task[None], _Visit] = field(default_factory=dict)
    """Open connections by what waits for their end, the oldest first."""

    @classmethod
    def of(cls, listener: socket.socket, context: ssl.SSLContext, application: Starlette) -> WebhookPort:
        """A port that is not served yet."""
        config = uvicorn.Config(
            application, log_level="warning", access_log=False, lifespan="off", http="h11", ws="none",
            server_header=False, date_header=False, proxy_headers=False, h11_max_incomplete_event_size=MAX_HEAD,
            timeout_keep_alive=int(IDLE_SECONDS),
        )
        config.load()
        listener.setblocking(False)
        return cls(listener, context, config)

    async def serve(self) -> None:
        """Takes connections until it is cancelled; then cuts those that are open."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(self.listener)
                except OSError as error:
                    log.error("webhook: cannot take a connection: %s", error)
                    await asyncio.sleep(PAUSE)
                    continue
                if self._make_room():
                    self._take(accepted)
                else:
                    accepted.close()
        finally:
            self.listener.close()
            for task in list(self.visits):
                task.cancel()
            await asyncio.gather(*self.visits, return_exceptions=True)

    def _make_room(self) -> bool:
        """Whether one more may come; for it the oldest stranger goes, or the oldest with nothing to do."""
        if len(self.visits) < MOST_CONNECTIONS:
            return True
        idle = [(task, visit) for task, visit in self.visits.items() if not visit.busy]
        strangers = [task for task, visit in idle if not visit.admitted]
        going = strangers or [task for task, _ in idle]
        if not going:
            return False
        del self.visits[going[0]]
        going[0].cancel()
        return True

    def _take(self, accepted: socket.socket) -> None:
        visit = _Visit()
        task = asyncio.get_running_loop().create_task(self._stay(accepted, visit))
        self.visits[task] = visit
        task.add_done_callback(lambda done: self.visits.pop(done, None))

    async def _stay(self, accepted: socket.socket, visit: _Visit) -> None:
        """From the handshake to the end of the connection."""
        loop = asyncio.get_running_loop()
        connection = None
        try:
            # What a handshake fails for is the client's affair.
            with contextlib.suppress(OSError):
                _, connection = await loop.connect_accepted_socket(
                    lambda: _Connection(self.config, self.state, visit), accepted, ssl=self.context,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS, ssl_shutdown_timeout=CLOSING_SECONDS,
                )
                visit.protocol = connection
                await connection.ended.wait()
        finally:
            if connection is None:
                accepted.close()
            elif not connection.ended.is_set():
                connection.transport.abort()


@dataclass(slots=True)
class _Visit:
    """What is known of one connection: ``admitted`` once a request of it was let in."""

    admitted: bool = False
    protocol: _Connection | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.protocol is not None and self.protocol.answering


class _Connection(H11Protocol):
    """uvicorn's protocol with a deadline whenever no request is being answered, and with the client's certificate."""

    def __init__(self, config: uvicorn.Config, state: ServerState, visit: _Visit) -> None:
        super().__init__(config, state, {})
        self.logger = _quiet
        self.ended = asyncio.Event()
        self.visit = visit
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = _Known(self.app, self.visit, _subject(transport))
        self._expect(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.answering:
            self._expect(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect(CLOSING_SECONDS if self.transport.is_closing() else IDLE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        super().connection_lost(exc)
        self.ended.set()

    def _expect(self, seconds: float | None) -> None:
        """Cuts the connection then, whatever it does meanwhile."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


@dataclass(frozen=True, slots=True)
class _Known:
    """ASGI: passes on who the client's certificate is of; who is refused anything has to begin anew."""

    app: Any
    visit: _Visit
    subject: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] < 400:
                    self.visit.admitted = True
                else:
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        if self.subject is not None:
            scope["extensions"] = {**scope.get("extensions", {}), "tls": {"client_cert_name": self.subject}}
        await self.app(scope, receive, watched)


def _subject(transport: asyncio.Transport) -> str | None:
    """Of a certificate that the handshake verified; the last of each kind of name, as RFC 4514 writes it."""
    certificate = transport.get_extra_info("peercert")
    if not certificate:
        return None
    parts = [f"{name}={value}" for entry in certificate.get("subject", ()) for name, value in entry]
    return repr(",".join(parts))[1:-1][:200]
