"""Clients without a sidecar that show a sidecar a certificate of their own."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mesh_runner import Mesh

from tulle.identity.ca import Authority
from tulle.identity.keys import key_pem, new_key
from tulle.identity.names import SpiffeId, WorkloadIdentity


@dataclass(frozen=True, slots=True)
class Stranger:
    """A client with a key and a certificate chain, in one PEM file."""

    pem: Path

    @classmethod
    def of(cls, folder: Path, authority: Authority, domain: str) -> Stranger:
        """With a certificate of an authority's for some trust domain's member."""
        key, now = new_key(), datetime.now(UTC)
        identity = WorkloadIdentity(SpiffeId(domain, "default", "guest"), "guest")
        issued = authority.issue(key.public_key(), identity, timedelta(hours=1), now)
        pem = folder / f"{domain}.{authority.trust_domain}.pem"
        pem.write_bytes(key_pem(key) + issued.leaf_pem.encode())
        return cls(pem)

    @classmethod
    def with_identity_of(cls, mesh: Mesh, workload: str, folder: Path) -> Stranger:
        """With what a workload's sidecar has: tulle-proxy and Envoy's agent keep it each in their own form."""
        place = mesh.folder / "state" / "workloads" / f"default.{workload}"
        [kept] = place.glob("*/identity.json")
        held = json.loads(kept.read_text())
        pem = folder / f"{workload}.pem"
        pem.write_text(held["key"] + (held["leaf"] if "leaf" in held else held["issued"]["chain"]))
        return cls(pem)

    def is_served(self, port: int, path: str = "/") -> bool:
        """Whether a sidecar's inbound port answers its request, in a new handshake."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # what it is served by is not the question
        context.load_cert_chain(self.pem)
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 10) as raw,
                context.wrap_socket(raw, server_hostname="outbound_.9001_._.backend.default.svc.cluster.local") as tls,
            ):
                tls.sendall(f"GET {path} HTTP/1.1\r\nHost: backend:9001\r\nConnection: close\r\n\r\n".encode())
                return tls.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False
