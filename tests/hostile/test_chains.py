"""Row 45: chains that are made to be expensive cost a bounded amount of processor time, and let nobody in."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attack.forged import SERVER, Impostor, presenting
from attack.judge import Memory, good_request
from attack.member import member, speak_mesh
from attack.positions import Arena, Position, arena
from attack.wire import CLOSED, RESET, converse
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness.identities import Identities, Identity
from harness.proxies import DataPlane

Arenas = Callable[[Position, DataPlane], Arena]
Key = ec.EllipticCurvePrivateKey

pytestmark = pytest.mark.integration

LENGTH = 40
"""Certificates beside the leaf: about as many as a message of the handshake may hold."""
TIMES = 20
PROCESSOR_S = 4.0
"""Of the proxy's processor time for so many handshakes: a hundred checks of a signature take about 10 ms of it."""
URI = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/attacker")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(names: tuple[str, str], key: Key, signer: Key, extension: x509.ExtensionType) -> bytes:
    """PEM of a certificate for the first name, as issued under the second."""
    subject, issuer = names
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(_name(issuer), _name(subject), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=True)
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)


def _all_alike(root: str) -> tuple[Key, bytes]:
    """Every authority has the root's name, and could have signed every other."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(LENGTH + 1)]
    own = keys[0]
    leaf = _certificate(("attacker", root), own, keys[1], x509.SubjectAlternativeName([URI]))
    others = [_certificate((root, root), key, own, AUTHORITY) for key in keys[1:]]
    return own, leaf + b"".join(others)


def _endless(root: str) -> tuple[Key, bytes]:
    """Each authority vouches for the next one, and the first says that the root vouches for it."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(LENGTH + 1)]
    names = ["attacker", *(f"authority {number}" for number in range(LENGTH)), root]
    made = [_certificate(("attacker", names[1]), keys[0], keys[1], x509.SubjectAlternativeName([URI]))]
    for number in range(1, LENGTH + 1):
        signer = keys[min(number + 1, LENGTH)]
        made.append(_certificate((names[number], names[number + 1]), keys[number], signer, AUTHORITY))
    return keys[0], b"".join(made)


Chain = Callable[[str], tuple[Key, bytes]]


def _identity(mesh: Identities, chain: Chain) -> Identity:
    """What a peer shows who makes such a chain below the mesh's root."""
    root = x509.load_pem_x509_certificate(mesh.root.encode())
    common = root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    key, certificates = chain(str(common))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(certificates.decode(), pem.decode())


def _processor_time(pid: int) -> float:
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("chain", [_all_alike, _endless])
def test_expensive_chains(plane: DataPlane, arenas: Arenas, chain: Chain) -> None:
    """A caller's, at the called side."""
    inbound = arenas("inbound", plane)
    inbound.application.forget()
    memory = Memory(inbound)
    context = presenting(inbound.identities, _identity(inbound.identities, chain))
    before = _processor_time(inbound.process.pid)
    for _ in range(TIMES):
        try:
            with inbound.upgraded(context) as line:
                line.send(f"GET /x HTTP/1.1\r\nHost: {inbound.host}\r\n\r\n".encode())
                assert line.drain() in {CLOSED, RESET}
                assert not line.kept
        except OSError:
            pass  # With TLS 1.3 the client may have finished its handshake before it hears that it is refused.
    assert _processor_time(inbound.process.pid) - before < PROCESSOR_S
    assert not inbound.application.snapshot().requests
    assert not [*good_request(inbound), *memory.faults()]


@pytest.mark.parametrize("chain", [_all_alike, _endless])
def test_expensive_chains_of_a_server(plane: DataPlane, chain: Chain, tmp_path: Path) -> None:
    """A server's, at the caller's side: it hears nothing."""
    mesh = Identities()
    with Impostor(mesh, _identity(mesh, chain)) as server:

        def towards(bootstrap: dict[str, Any]) -> None:
            inline = (mesh, "client") if plane.name == "envoy" else None
            for cluster in bootstrap["static_resources"]["clusters"]:
                if cluster["name"].startswith("outbound|80||backend-service"):
                    speak_mesh(cluster, SERVER, server.port, inline)

        with arena("outbound", member(plane, mesh, "client", tmp_path), tmp_path, towards) as calling:
            memory, before = Memory(calling), _processor_time(calling.process.pid)
            for _ in range(TIMES):
                with calling.connect() as line:
                    asked = f"GET /x HTTP/1.1\r\nHost: {calling.host}\r\n\r\n".encode()
                    assert converse(line, [asked], 1).statuses == [503]
            assert _processor_time(calling.process.pid) - before < PROCESSOR_S
            assert not list(memory.faults())
            assert calling.alive() is None
        assert server.shaken >= TIMES
        assert not any(server.heard)
