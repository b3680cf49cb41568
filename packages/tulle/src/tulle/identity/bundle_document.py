"""SPIFFE trust bundles as documents: the JWK sets that meshes give each other (SPIFFE Trust Domain and Bundle §4)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tulle.identity.signer import fingerprint, pem

MAX_DOCUMENT = 1024 * 1024
REFRESH_HINT = 3600
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?")


class BundleRefusedError(ValueError):
    """Not a trust domain's name, or not a bundle that could vouch for anybody; the message says why."""


def check_domain(name: str) -> None:
    """Raises `BundleRefusedError` unless this is the name of a trust domain."""
    if not _DOMAIN.fullmatch(name):
        raise BundleRefusedError(f"{name!r:.80} is no trust domain: lower-case letters, digits, dots, dashes")


def read(document: str, now: datetime) -> str:
    """The roots in PEM of a bundle document, or of PEM text. Raises `BundleRefusedError`."""
    if len(document) > MAX_DOCUMENT:
        raise BundleRefusedError(f"the bundle has more than {MAX_DOCUMENT:,} bytes")
    try:
        if document.lstrip().startswith("-----BEGIN"):
            roots = x509.load_pem_x509_certificates(document.encode())
        else:
            roots = [_certificate(key) for key in _keys(document) if key.get("use") == "x509-svid"]
    except (ValueError, RecursionError) as error:
        raise BundleRefusedError(f"the bundle cannot be read: {error}") from error
    if not roots:
        raise BundleRefusedError("the bundle has no key of use x509-svid, so it could vouch for nobody")
    for root in roots:
        _check(root, now)
    return "".join(map(pem, roots))


def described(roots: str) -> tuple[list[str], float]:
    """The SHA-256 fingerprints of these roots in PEM, and when the last of them expires, in seconds since 1970."""
    certificates = x509.load_pem_x509_certificates(roots.encode())
    return [fingerprint(each) for each in certificates], max(
        each.not_valid_after_utc.timestamp() for each in certificates
    )


def write(roots: str, sequence: int) -> str:
    """The document of these roots in PEM; `sequence` must grow with every change."""
    certificates = x509.load_pem_x509_certificates(roots.encode())
    keys = [{"use": "x509-svid", **_key(each.public_key()), "x5c": [_der64(each)]} for each in certificates]
    content = {"keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": REFRESH_HINT}
    return json.dumps(content, indent=1)


def _keys(document: str) -> Sequence[dict[str, Any]]:
    content = json.loads(document)
    keys = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError("a JWK set has a list of keys")
    return keys


def _certificate(key: dict[str, Any]) -> x509.Certificate:
    chain = key.get("x5c")
    if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
        raise ValueError("a key of use x509-svid has one certificate in x5c")
    try:
        return x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
    except binascii.Error as error:
        raise ValueError(f"x5c is not base64: {error}") from error


def _check(root: x509.Certificate, now: datetime) -> None:
    name = root.subject.rfc4514_string()
    if now >= root.not_valid_after_utc:
        raise BundleRefusedError(f"the root {name!r} has expired")
    try:
        authority = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    if not authority:
        raise BundleRefusedError(f"{name!r} is no certificate authority")


def _key(key: Any) -> dict[str, str]:
    """The public key's own members of a JWK (RFC 7518 §6, RFC 8037)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        size = (key.curve.key_size + 7) // 8
        numbers = key.public_numbers()
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[key.curve.name]
        return {"kty": "EC", "crv": curve, "x": _url64(numbers.x, size), "y": _url64(numbers.y, size)}
    if isinstance(key, rsa.RSAPublicKey):
        rsa_numbers = key.public_numbers()
        return {"kty": "RSA", "n": _url64(rsa_numbers.n), "e": _url64(rsa_numbers.e)}
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    raise BundleRefusedError(f"keys of type {type(key).__name__} cannot be written")


def _url64(number: int, size: int | None = None) -> str:
    length = size if size is not None else (number.bit_length() + 7) // 8
    return base64.urlsafe_b64encode(number.to_bytes(length, "big")).rstrip(b"=").decode()


def _der64(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
