"""Makes the certificates of a run: a root and the two sidecars' leaves with their SPIFFE identities."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIDES = ("client", "server")
SERVER_NAME = "server.bench"
"""The DNS name of the server's certificate, for peers that know no SPIFFE identities."""


def identity(side: str) -> str:
    """The SPIFFE id of one side."""
    return f"spiffe://cluster.local/ns/default/sa/{side}"


def write(folder: Path) -> None:
    """Write root.pem and, for each side, <side>.pem, <side>.key and both in <side>.both.pem, valid for a day."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench root")])
    basic = x509.BasicConstraints(ca=True, path_length=0)
    root = (
        _dated(root_name, root_name, root_key)
        .add_extension(basic, critical=True)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "root.pem").write_bytes(root.public_bytes(pem))
    for side in SIDES:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.UniformResourceIdentifier(identity(side)), x509.DNSName(f"{side}.bench")]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        leaf = (
            _dated(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, side)]), root_name, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        form = serialization.PrivateFormat.PKCS8
        secret = key.private_bytes(pem, form, serialization.NoEncryption())
        chain = leaf.public_bytes(pem)
        for name, content in (
            (f"{side}.pem", chain),
            (f"{side}.key", secret),
            (f"{side}.both.pem", chain + secret),
        ):
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)


def _dated(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
