"""Members of another mesh are known by their own mesh's roots alone, on both data planes."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mesh_runner import Mesh

from tulle.identity.bundle_document import write
from tulle.identity.ca import Authority
from tulle.identity.keys import key_pem, new_key
from tulle.identity.names import SpiffeId, WorkloadIdentity
from tulle.identity.signer import new_root

OTHER = "other.example"


class Stranger:
    """A client with a certificate of an authority's for some trust domain's member."""

    def __init__(self, folder: Path, authority: Authority, domain: str) -> None:
        key, now = new_key(), datetime.now(UTC)
        identity = WorkloadIdentity(SpiffeId(domain, "default", "guest"), "guest")
        issued = authority.issue(key.public_key(), identity, timedelta(hours=1), now)
        self.pem = folder / f"{domain}.{authority.trust_domain}.pem"
        self.pem.write_bytes(key_pem(key) + issued.leaf_pem.encode())

    def is_served(self, port: int) -> bool:
        """Whether a sidecar's inbound port answers its request."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # what it is served by is not the question
        context.load_cert_chain(self.pem)
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 10) as raw,
                context.wrap_socket(raw, server_hostname="outbound_.9001_._.backend.default.svc.cluster.local") as tls,
            ):
                tls.sendall(b"GET / HTTP/1.1\r\nHost: backend:9001\r\nConnection: close\r\n\r\n")
                return tls.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False


def other_authority(folder: Path, domain: str) -> Authority:
    return Authority.open(folder / f"authority-{domain}-{len(list(folder.iterdir()))}", domain, datetime.now(UTC))


def test_a_federated_members_certificate_counts_under_its_own_root_only(mesh: Mesh, tmp_path: Path) -> None:
    theirs = other_authority(tmp_path, OTHER)
    member, liar = Stranger(tmp_path, theirs, OTHER), Stranger(tmp_path, theirs, "cluster.local")
    third = Stranger(tmp_path, theirs, "third.example")
    port = mesh.workload("backend-v1")["inbound"]
    assert not member.is_served(port)
    bundle = tmp_path / "theirs.json"
    bundle.write_text(write(theirs.root_pem, 1))
    added = mesh.tulle("federation", "add", OTHER, "--bundle", str(bundle))
    assert added.returncode == 0, added.stderr
    mesh.until(lambda: member.is_served(port), "the member of the other mesh is served")
    assert not liar.is_served(port), "its root cannot speak for this mesh"
    assert not third.is_served(port), "nor for a third one"
    assert OTHER in mesh.tulle("federation", "list").stdout
    bundle.write_text(write(new_root(OTHER, datetime.now(UTC)).root_pem, 2))
    assert mesh.tulle("federation", "add", OTHER, "--bundle", str(bundle)).returncode == 0
    mesh.until(lambda: not member.is_served(port), "another bundle does not vouch for it")
    assert mesh.tulle("federation", "remove", OTHER).returncode == 0
    assert mesh.tulle("federation", "remove", OTHER).returncode == 1
