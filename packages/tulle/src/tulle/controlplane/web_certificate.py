"""The TLS of the control plane's web servers: certificates of the mesh's own authority, always fresh."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tulle.identity.ca import Authority, Trust, half_life
from tulle.identity.keys import key_pem, new_key


@dataclass(slots=True)
class WebCertificate:
    """A web server's certificate of the mesh's own authority, made anew at half-life and when the roots change.

    It has ``names`` beside the host's own. Clients may show certificates that ``clients`` (CA certificates in PEM)
    vouch for; others are turned away at the handshake.
    """

    authority: Authority
    host: str
    clock: Callable[[], datetime]
    names: Sequence[str] = ()
    clients: str | None = None

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
        names = [socket.gethostname(), *([] if _is_any(self.host) else [self.host.strip("[]")]), *self.names]
        issued = self.authority.issue_server(key.public_key(), names, self.clock())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["http/1.1"])
        # A session that is taken up again would not be asked for its certificate.
        context.num_tickets = 0
        _load(context, key_pem(key) + issued.leaf_pem.encode())
        if self.clients is not None:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=self.clients)
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
