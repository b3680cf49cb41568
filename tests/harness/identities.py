"""A certificate authority of a test's own, and identities of the mesh that it vouches for."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Life = tuple[datetime, datetime]
"""From when until when a certificate is valid."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, PEM."""

    certificate: str
    key: str


@dataclass(slots=True)
class Identities:
    """SPIFFE identities of trust domain cluster.local, valid for a day."""

    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    _root: x509.Certificate | None = None

    @property
    def root(self) -> str:
        """The certificate that all others are checked against, PEM."""
        return self._authority().public_bytes(serialization.Encoding.PEM).decode()

    def identity(self, namespace: str, account: str) -> Identity:
        """A new key and certificate of a service account."""
        uri = f"spiffe://cluster.local/ns/{namespace}/sa/{account}"
        return self._issue(account, x509.UniformResourceIdentifier(uri))

    def server(self, host: str) -> ssl.SSLContext:
        """What a server of this name outside the mesh answers with; callers may have certificates."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.root)
        context.verify_mode = ssl.CERT_OPTIONAL
        _load(context, self._issue(host, x509.DNSName(host)))
        return context

    def serving(self, host: str) -> Identity:
        """A new key and certificate of a server by this DNS name."""
        return self._issue("server", x509.DNSName(host))

    def write(self, directory: Path) -> None:
        """The files that policies may name: ``root.pem``, ``client.pem``, ``client.key``; ``other.pem`` is a
        root that vouches for nobody.
        """
        own = self.identity("outside", "client")
        files = {"root.pem": self.root, "client.pem": own.certificate, "client.key": own.key}
        for name, text in (files | {"other.pem": Identities().root}).items():
            (directory / name).write_text(text)

    def issue(
        self,
        names: Sequence[x509.GeneralName],
        life: Life | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Identity:
        """A new key and a certificate with these alternative names, this life and these further extensions."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _named(_builder("leaf", self._authority().subject, key, life), names, extensions)
        return _identity(builder.sign(self._key, hashes.SHA256()), key)

    @staticmethod
    def alone(names: Sequence[x509.GeneralName]) -> Identity:
        """A new key, and a certificate with these alternative names that it signed itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        itself = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        return _identity(_named(_builder("leaf", itself, key), names).sign(key, hashes.SHA256()), key)

    def _issue(self, name: str, alternative: x509.GeneralName) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _named(_builder(name, self._authority().subject, key), [alternative])
        return _identity(builder.sign(self._key, hashes.SHA256()), key)

    def client(self, namespace: str, account: str) -> ssl.SSLContext:
        """What a caller of this service account connects with."""
        context = ssl.create_default_context(cadata=self.root)
        context.check_hostname = False
        _load(context, self.identity(namespace, account))
        return context

    def _authority(self) -> x509.Certificate:
        if self._root is None:
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cases")])
            builder = _builder("cases", name, self._key)
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            self._root = builder.sign(self._key, hashes.SHA256())
        return self._root


def _load(context: ssl.SSLContext, own: Identity) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(own.certificate + own.key)
        file.flush()
        context.load_cert_chain(Path(file.name))


def _identity(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Identity:
    return Identity(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def _named(
    builder: x509.CertificateBuilder,
    names: Sequence[x509.GeneralName],
    extensions: Sequence[x509.ExtensionType] = (),
) -> x509.CertificateBuilder:
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    for each in extensions:
        builder = builder.add_extension(each, critical=True)
    return builder


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: Life | None = None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begins, ends = life or (now - timedelta(minutes=5), now + timedelta(days=1))
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
