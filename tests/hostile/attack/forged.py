"""Certificates that no member of the mesh has, of which each must fail a handshake, and a server that shows them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from harness.identities import Identities, Identity

CALLER = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/default/sa/backend"
HOUR = timedelta(hours=1)


def names(own: str) -> dict[str, tuple[str, ...]]:
    """Row 44, by what is wrong: the URI names of a certificate that the mesh's authority signed."""
    account = own.removeprefix("spiffe://cluster.local")
    return {
        "two names": (own, "spiffe://cluster.local/ns/bank/sa/till"),
        "two names, another first": ("spiffe://cluster.local/ns/bank/sa/till", own),
        "no name": (),
        "trailing slash": (f"{own}/",),
        "NUL": (f"{own}\0.evil",),
        "look-alike domain": (f"spiffe://cluster.local.evil{account}",),
        "domain in another case": (f"spiffe://Cluster.Local{account}",),
        "domain as a user": (f"spiffe://cluster.local@evil{account}",),
        "domain with a port": (f"spiffe://cluster.local:443{account}",),
        "domain in the path": (f"spiffe://evil/cluster.local{account}",),
        "another scheme": (f"https://cluster.local{account}",),
        "a query": (f"{own}?x=1",),
        "dot segments": (f"spiffe://cluster.local/ns/default/sa/../..{account}",),
    }


def certificates(mesh: Identities, own: str) -> dict[str, Identity]:
    """Rows 43 and 44: by what is wrong, what a peer shows who would be `own`."""
    uri = [x509.UniformResourceIdentifier(own)]
    now = datetime.now(UTC)
    foreign = Identities()
    alone = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    useless = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    made = {
        "expired": mesh.issue(uri, (now - 2 * HOUR, now - HOUR)),
        "not yet valid": mesh.issue(uri, (now + HOUR, now + 2 * HOUR)),
        "foreign": foreign.issue(uri),
        "self-signed": Identities.alone(uri),
        "an authority's": mesh.issue(
            uri, extensions=[x509.BasicConstraints(ca=True, path_length=None), alone]
        ),
        "for another use": mesh.issue(uri, extensions=[useless]),
    }
    for what, each in names(own).items():
        made[what] = mesh.issue([x509.UniformResourceIdentifier(name) for name in each])
    return made


def presenting(mesh: Identities, own: Identity | None) -> ssl.SSLContext:
    """A caller of the mesh that shows this certificate, or none."""
    context = ssl.create_default_context(cadata=mesh.root)
    context.check_hostname = False
    if own is not None:
        _load(context, own)
    return context


def _load(context: ssl.SSLContext, own: Identity) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(own.certificate + own.key)
        file.flush()
        context.load_cert_chain(Path(file.name))


@dataclass(slots=True)
class Impostor:
    """A server whose certificate can be changed; `heard` is what callers said to it after a handshake."""

    mesh: Identities
    own: Identity
    heard: list[bytes] = field(default_factory=list)
    shaken: int = 0
    _socket: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def __enter__(self) -> Impostor:
        self._thread = threading.Thread(target=self._serve, name="impostor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._thread is not None:
            self._thread.join(10)

    def _serve(self) -> None:
        for accepted in self._accepted():
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.mesh.root)
            context.verify_mode = ssl.CERT_REQUIRED
            _load(context, self.own)
            self.shaken += 1
            with accepted, contextlib.suppress(OSError):
                accepted.settimeout(5)
                with context.wrap_socket(accepted, server_side=True) as line:
                    self._answer(line)

    def _accepted(self) -> Iterator[socket.socket]:
        while True:
            try:
                yield self._socket.accept()[0]
            except OSError:
                return

    def _answer(self, line: ssl.SSLSocket) -> None:
        said = b""
        while b"\r\n\r\n" not in said:
            more = line.recv(1 << 16)
            if not more:
                break
            said += more
        self.heard.append(said)
        line.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
