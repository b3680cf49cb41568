"""The certificate authority: a root made on first start, and short-lived leaf certificates under it."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tulle.identity.files import (
    guarded_directory,
    private_directory,
    read_private,
    sync_directory,
    write_private,
)
from tulle.identity.keys import PublicKey, key_pem, load_key, new_key
from tulle.identity.names import (
    CONTROL_PLANE_ACCOUNT,
    CONTROL_PLANE_NAMESPACE,
    CONTROL_PLANE_SERVER_NAME,
    SpiffeId,
    WorkloadIdentity,
)

ROOT_LIFE = timedelta(days=3650)
MAX_LEAF_LIFE = timedelta(hours=4)
CLOCK_SKEW = timedelta(minutes=5)
"""How far a certificate's start lies back, for peers whose clock is behind."""

_KEY, _CERTIFICATE = "root.key", "root.pem"


class RootUnusableError(Exception):
    """The root on disk is damaged, expired, or belongs to another trust domain."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as handed out: PEM texts, leaf first and root last, and its life."""

    chain: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    @property
    def leaf_pem(self) -> str:
        return "".join(self.chain[:-1])


class Authority:
    """The mesh's root. Use `open`."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, root: x509.Certificate, trust_domain: str) -> None:
        self._key = key
        self._root = root
        self.trust_domain = trust_domain
        self.root_pem = root.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def open(cls, directory: Path, trust_domain: str, now: datetime) -> Authority:
        """The root in `directory`/ca, made there if there is none.

        Raises `UnsafeKeyError` when others can read the key or put another in its place, and
        `RootUnusableError` when the root cannot be used: it is never replaced silently, since every workload
        would lose its identity.
        """
        guarded_directory(directory)
        place = directory / "ca"
        if not place.exists():
            _create(place, trust_domain, now)
        private_directory(place)
        try:
            key = load_key(read_private(place / _KEY))
            root = x509.load_pem_x509_certificate((place / _CERTIFICATE).read_bytes())
        except (ValueError, FileNotFoundError) as error:
            raise RootUnusableError(f"the root in {place} is damaged: {error}. Restore it") from error
        _check(root, key, trust_domain, now)
        return cls(key, root, trust_domain)

    def issue(
        self, key: PublicKey, identity: WorkloadIdentity, lifetime: timedelta, now: datetime
    ) -> Issued:
        """A leaf for a workload, valid for `lifetime` (if positive) but at most `MAX_LEAF_LIFE`."""
        subject = [
            x509.NameAttribute(NameOID.COMMON_NAME, identity.workload),
            *([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, identity.app)] if identity.app else []),
            *([x509.NameAttribute(NameOID.DN_QUALIFIER, identity.version)] if identity.version else []),
        ]
        names = [x509.UniformResourceIdentifier(str(identity.spiffe_id))]
        return self._sign(key, x509.Name(subject), names, lifetime, now)

    def issue_server(self, key: PublicKey, addresses: Sequence[str], now: datetime) -> Issued:
        """The control plane's own certificate: its SPIFFE id, its fixed server name, these hosts and IPs."""
        spiffe_id = SpiffeId(self.trust_domain, CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT)
        hosts = dict.fromkeys([CONTROL_PLANE_SERVER_NAME, "localhost", "127.0.0.1", *addresses])
        names = [x509.UniformResourceIdentifier(str(spiffe_id)), *map(_host_name, hosts)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CONTROL_PLANE_SERVER_NAME)])
        return self._sign(key, subject, names, MAX_LEAF_LIFE, now)

    def _sign(
        self,
        key: PublicKey,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        lifetime: timedelta,
        now: datetime,
    ) -> Issued:
        life = min(lifetime, MAX_LEAF_LIFE) if lifetime > timedelta() else MAX_LEAF_LIFE
        # X.509 times have whole seconds.
        start = (now - CLOCK_SKEW).replace(microsecond=0)
        end = min((now + life).replace(microsecond=0), self._root.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder(self._root.subject, subject, key, x509.random_serial_number(), start, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature", *_encipherment(key)), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        leaf = builder.sign(self._key, hashes.SHA256())
        pem = leaf.public_bytes(serialization.Encoding.PEM).decode()
        return Issued((pem, self.root_pem), start, end)


def _create(place: Path, trust_domain: str, now: datetime) -> None:
    """Makes key and certificate in a directory that appears under its name only when both are complete."""
    key = new_key()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain),
            x509.NameAttribute(NameOID.COMMON_NAME, "Tulle mesh root"),
        ]
    )
    start = (now - CLOCK_SKEW).replace(microsecond=0)
    public = key.public_key()
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")])
    root = (
        x509.CertificateBuilder(
            subject, subject, public, x509.random_serial_number(), start, start + ROOT_LIFE
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    temporary = place.with_name(".ca.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    write_private(temporary / _KEY, key_pem(key))
    write_private(temporary / _CERTIFICATE, root.public_bytes(serialization.Encoding.PEM))
    temporary.rename(place)
    sync_directory(place.parent)


def _check(root: x509.Certificate, key: ec.EllipticCurvePrivateKey, trust_domain: str, now: datetime) -> None:
    if root.public_key() != key.public_key():
        raise RootUnusableError("the root certificate and its key do not belong together: restore both")
    if now >= root.not_valid_after_utc:
        raise RootUnusableError(f"the root expired on {root.not_valid_after_utc:%Y-%m-%d}; make a new one")
    names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ids = names.get_values_for_type(x509.UniformResourceIdentifier)
    if ids != [f"spiffe://{trust_domain}"]:
        raise RootUnusableError(f"the root is for {', '.join(ids)}, but the trust domain is {trust_domain}")


def _key_usage(*allowed: str) -> x509.KeyUsage:
    uses = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{use: use in allowed for use in uses})


def _encipherment(key: PublicKey) -> tuple[str, ...]:
    return ("key_encipherment",) if isinstance(key, rsa.RSAPublicKey) else ()


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def half_life(issued: Issued) -> datetime:
    """When to renew: half of the certificate's life from now on, its backdated start left out."""
    start = issued.not_before + CLOCK_SKEW
    return start + (issued.not_after - start) / 2


def utc_now() -> datetime:
    """The clock that the callers of this room pass in."""
    return datetime.now(UTC)
