"""Where the admin API listens: on loopback in plain HTTP, beyond it with TLS and tokens only."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from tulle.identity.ca import Authority, Trust, half_life
from tulle.identity.keys import key_pem, new_key

BACKLOG = 128


@dataclass(frozen=True, slots=True)
class AdminPort:
    """A listening socket. Beyond loopback nobody is let in for where the connection comes from."""

    listener: socket.socket
    host: str
    loopback: bool

    @classmethod
    def listen(cls, address: str) -> AdminPort:
        """Listens at `host:port` (an IPv6 address in brackets; port 0: any free one). Raises OSError."""
        host, _, port = address.rpartition(":")
        bare = host.strip("[]")
        if not (bare and port.isascii() and port.isdigit()):
            raise OSError(f"the admin API's address must be HOST:PORT, not {address!r}")
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((bare, int(port)))
        except (OSError, OverflowError) as error:
            listener.close()
            raise OSError(f"cannot listen at {address}: {error}") from error
        listener.listen(BACKLOG)
        # As it was resolved: a name that looks local may not be.
        return cls(listener, host, ipaddress.ip_address(listener.getsockname()[0]).is_loopback)

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"{'http' if self.loopback else 'https'}://{self.host}:{self.listener.getsockname()[1]}"

    def server(self, application: Starlette, certificates: AdminCertificate) -> uvicorn.Server:
        """A web server for an application, to be given the listener."""
        config = uvicorn.Config(
            application, log_level="warning", access_log=False, lifespan="off", loop="none", ws="none",
            timeout_graceful_shutdown=1, server_header=False, proxy_headers=False, h11_max_incomplete_event_size=32_768,
            timeout_keep_alive=30,
        )
        if not self.loopback:
            config.load()
            config.ssl = certificates.context()
        return uvicorn.Server(config)


@dataclass(slots=True)
class AdminCertificate:
    """The admin API's certificate of the mesh's own authority, made anew at half-life and when the roots change."""

    authority: Authority
    host: str
    clock: Callable[[], datetime]

    def context(self) -> ssl.SSLContext:
        """A TLS 1.3 server's context that looks at each handshake whether its certificate is still to be used."""
        first, renew_at, trust = self._made()
        current: tuple[ssl.SSLContext, datetime, Trust] = (first, renew_at, trust)

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
            nonlocal current
            if self.clock() >= current[1] or current[2] is not self.authority.trust:
                current = self._made()
            connection.context = current[0]

        # OpenSSL asks for every handshake, also of clients that name no server.
        first.sni_callback = choose
        return first

    def _made(self) -> tuple[ssl.SSLContext, datetime, Trust]:
        key, trust = new_key(), self.authority.trust
        names = [socket.gethostname(), *([] if _is_any(self.host) else [self.host.strip("[]")])]
        issued = self.authority.issue_server(key.public_key(), names, self.clock())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        _load(context, key_pem(key) + issued.leaf_pem.encode())
        return context, half_life(issued), trust


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Python takes keys from files only: this one is its owner's alone, and gone at once."""
    descriptor, name = tempfile.mkstemp(prefix="tulle-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False
