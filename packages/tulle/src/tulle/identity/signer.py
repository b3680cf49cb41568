"""One issuer of the mesh: a root with its key, or an intermediate under one; it signs leaves and revocation lists."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tulle.identity.files import read_private
from tulle.identity.keys import PublicKey, new_key

ROOT_LIFE = timedelta(days=3650)
MAX_LEAF_LIFE = timedelta(hours=4)
CLOCK_SKEW = timedelta(minutes=5)
"""How far a certificate's start lies back, for peers whose clock is behind."""

IssuerKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class RootUnusableError(Exception):
    """An issuer is damaged, expired, does not fit its key or root, or belongs to another trust domain."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as handed out: PEM texts, leaf first and the signing root last, and its life.

    The first `presented` certificates are what the holder shows to peers; the others are the roots to trust.
    `serial` is in lower-case hexadecimal, `root` is the fingerprint of the root it ends in.
    """

    chain: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    presented: int
    serial: str
    root: str

    @property
    def leaf_pem(self) -> str:
        return "".join(self.chain[: self.presented])


@dataclass(frozen=True, slots=True)
class IssuerFiles:
    """An issuer given as PEM files: its certificate (with those between it and the root after it), key, root."""

    certificate: Path
    key: Path
    root: Path


@dataclass(frozen=True, slots=True)
class Signer:
    """A key and the certificates above it, the issuer's own first and without the root, which may be the issuer."""

    key: IssuerKey
    intermediates: tuple[x509.Certificate, ...]
    root: x509.Certificate

    @property
    def certificate(self) -> x509.Certificate:
        """The issuer's own certificate."""
        return self.intermediates[0] if self.intermediates else self.root

    @property
    def root_pem(self) -> str:
        return pem(self.root)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root, in hexadecimal: what this issuer is called."""
        return fingerprint(self.root)

    def sign(
        self,
        key: PublicKey,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        lifetime: timedelta,
        now: datetime,
    ) -> x509.Certificate:
        """A leaf that lives `lifetime` (if positive), at most `MAX_LEAF_LIFE`, and no longer than who signs it."""
        life = min(lifetime, MAX_LEAF_LIFE) if lifetime > timedelta() else MAX_LEAF_LIFE
        above = [*self.intermediates, self.root]
        # X.509 times have whole seconds.
        start = max([(now - CLOCK_SKEW).replace(microsecond=0), *(each.not_valid_before_utc for each in above)])
        end = min([(now + life).replace(microsecond=0), *(each.not_valid_after_utc for each in above)])
        issuer = self.certificate
        encipherment = ("key_encipherment",) if isinstance(key, rsa.RSAPublicKey) else ()
        builder = (
            x509.CertificateBuilder(issuer.subject, subject, key, x509.random_serial_number(), start, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage("digital_signature", *encipherment), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(_authority_key(issuer), critical=False)
        )
        return builder.sign(self.key, self._hash())

    def revocations(self, serials: Sequence[str], number: int, now: datetime) -> str:
        """A revocation list (RFC 5280) in PEM. `number` must grow from list to list.

        It is pushed when it changes and must not expire while nobody is there to push: it lives as long as the issuer.
        """
        issuer = self.certificate
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update((now - CLOCK_SKEW).replace(microsecond=0))
            .next_update(issuer.not_valid_after_utc)
            .add_extension(_authority_key(issuer), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for serial in sorted(serials):
            revoked = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, self._hash()).public_bytes(serialization.Encoding.PEM).decode()

    def _hash(self) -> hashes.SHA256 | None:
        return None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def new_root(trust_domain: str, now: datetime) -> Signer:
    """A fresh root. Its name is its own, so that nothing mistakes one root of the mesh for another."""
    key = new_key()
    serial = x509.random_serial_number()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Tulle mesh root {serial:040x}"[:32]),
        ]
    )
    start = (now - CLOCK_SKEW).replace(microsecond=0)
    public = key.public_key()
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
    root = (
        x509.CertificateBuilder(subject, subject, public, serial, start, start + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Signer(key, (), root)


def from_files(files: IssuerFiles) -> Signer:
    """The issuer in these files, not yet checked.

    Raises `RootUnusableError` for what cannot be read, `UnsafeKeyError` for a key open to others.
    """
    above = _certificates(files.certificate)
    [root, *more] = _certificates(files.root)
    if more:
        raise RootUnusableError(f"{files.root} holds {1 + len(more)} certificates; give the one root")
    try:
        key = serialization.load_pem_private_key(read_private(files.key), password=None)
    except OSError as error:
        raise RootUnusableError(f"{files.key} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise RootUnusableError(f"{files.key} holds no private key without a passphrase: {error}") from error
    if not isinstance(key, IssuerKey):
        raise RootUnusableError(f"{files.key} is neither an EC, an RSA nor an Ed25519 key")
    return Signer(key, tuple(each for each in above if each != root), root)


def check(signer: Signer, trust_domain: str, now: datetime) -> None:
    """Raises `RootUnusableError` unless leaves signed by `signer` will be accepted by those who trust its root."""
    issuer = signer.certificate
    chain = [*signer.intermediates, signer.root]
    if issuer.public_key() != signer.key.public_key():
        raise RootUnusableError(_not_its_key(signer, chain))
    for certificate, above in zip(chain, [*chain[1:], signer.root], strict=True):
        try:
            certificate.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise RootUnusableError(_no_link(certificate, above, chain)) from error
    for below, certificate in enumerate(chain):
        _check_authority(certificate, below, now)
    for certificate in chain:
        ids = _spiffe_ids(certificate)
        if ids and ids != [f"spiffe://{trust_domain}"]:
            raise RootUnusableError(f"the root is for {', '.join(ids)}, but the trust domain is {trust_domain}")


def _not_its_key(signer: Signer, chain: Sequence[x509.Certificate]) -> str:
    own = next((each for each in chain if each.public_key() == signer.key.public_key()), None)
    if own is None:
        return f"the key does not belong to {_called(signer.certificate)}: give the two that belong together"
    return f"the key belongs to {_called(own)}, which must come first, and not {_called(signer.certificate)}"


def _no_link(certificate: x509.Certificate, above: x509.Certificate, chain: Sequence[x509.Certificate]) -> str:
    """What is wrong where a chain does not go on, and what would be right."""
    if certificate == above:
        return f"{_called(certificate)} is not signed by itself: it is no root, and the chain does not lead to one"
    broken = f"{_called(certificate)} is not signed by {_called(above)}: the chain does not lead to the root"
    if certificate.issuer == above.subject:
        return f"{broken}; that one has the right name and another key"
    if any(each.subject == certificate.issuer for each in chain):
        return f"{broken}; it is out of order: '{certificate.issuer.rfc4514_string()}' must come right after it"
    return f"{broken}; append the certificate of '{certificate.issuer.rfc4514_string()}', which is missing"


def _check_authority(certificate: x509.Certificate, below: int, now: datetime) -> None:
    """`below` counts the authorities between this one and the leaves."""
    name = _called(certificate)
    if now >= certificate.not_valid_after_utc:
        raise RootUnusableError(f"{name} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; make a new one")
    if now < certificate.not_valid_before_utc:
        raise RootUnusableError(f"{name} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise RootUnusableError(f"{name} is no certificate authority: it has no basic constraints") from None
    if not constraints.ca:
        raise RootUnusableError(f"{name} is no certificate authority: its basic constraints say CA:FALSE")
    if constraints.path_length is not None and constraints.path_length < below:
        raise RootUnusableError(
            f"{name} allows {constraints.path_length} authorities below it (its path length), but there are {below}"
        )
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise RootUnusableError(f"{name} may not sign certificates: its key usage lacks keyCertSign")
    if below == 0 and not usage.crl_sign:
        raise RootUnusableError(f"{name} may not sign revocation lists: its key usage lacks cRLSign")


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise RootUnusableError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RootUnusableError(f"{path} is damaged: it holds no PEM certificate ({error})") from error


def _spiffe_ids(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith("spiffe://")]


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        key = issuer.public_key()
        if not isinstance(key, PublicKey):
            raise RootUnusableError(f"{_called(issuer)} has a key of a kind that is not supported") from None
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _called(certificate: x509.Certificate) -> str:
    return f"the certificate '{certificate.subject.rfc4514_string()}'"


def key_usage(*allowed: str) -> x509.KeyUsage:
    """A key usage with these bits (named as in `x509.KeyUsage`) and no others."""
    uses = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{use: use in allowed for use in uses})


def host_name(host: str) -> x509.GeneralName:
    """A host as a subject alternative name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()
