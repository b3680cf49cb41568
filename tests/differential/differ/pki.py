"""Makes the certificates of a test run: one mesh root, a foreign root, and a SPIFFE leaf for each account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LEAVES = {"client": "mesh", "server": "mesh", "other": "mesh", "stranger": "foreign"}
"""Leaf by account, with the root that signs it."""


@dataclass(frozen=True, slots=True)
class Pki:
    """A folder with `<root>.pem`, and `<account>.pem` and `<account>.key` for each of LEAVES."""

    folder: Path

    def root(self, name: str) -> str:
        """The path of a root certificate."""
        return str(self.folder / f"{name}.pem")

    def chain(self, account: str) -> str:
        """The path of an account's certificate."""
        return str(self.folder / f"{account}.pem")

    def key(self, account: str) -> str:
        """The path of an account's key."""
        return str(self.folder / f"{account}.key")


def spiffe(account: str) -> str:
    """The SPIFFE id of an account."""
    return f"spiffe://cluster.local/ns/default/sa/{account}"


def make(folder: Path, now: datetime | None = None) -> Pki:
    """Write roots and leaves, valid for one day around `now`, into `folder`."""
    now = now or datetime.now(UTC)
    for root in sorted(set(LEAVES.values())):
        root_key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, root)])
        authority = (
            _builder(subject, subject, root_key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signing=True), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        _write(folder / f"{root}.pem", authority.public_bytes(serialization.Encoding.PEM))
        for account in (name for name, signer in LEAVES.items() if signer == root):
            _leaf(folder, account, authority, root_key, now)
    return Pki(folder)


def _leaf(
    folder: Path,
    account: str,
    authority: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(spiffe(account)), x509.DNSName("localhost")]
    )
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, account)])
    leaf = (
        _builder(subject, authority.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signing=False), critical=True)
        .add_extension(names, critical=False)
        .add_extension(uses, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    _write(folder / f"{account}.pem", leaf.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(folder / f"{account}.key", key.private_bytes(encoding, form, serialization.NoEncryption()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=12))
        .not_valid_after(now + timedelta(hours=12))
    )


def _usage(*, signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing,
        key_cert_sign=signing,
        crl_sign=signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
