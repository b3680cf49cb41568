"""Private keys and signing requests: what each end of a certificate request does."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

MAX_CSR = 16 * 1024
"""Longest signing request read, in bytes."""

MIN_RSA_BITS = 2048

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class RequestRefusedError(ValueError):
    """A signing request that is malformed, not signed by its own key, or for a key that is too weak."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> bytes:
    """The key as unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in `pem`. Raises ValueError for anything else."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")
    return key


def signing_request(key: ec.EllipticCurvePrivateKey, common_name: str = "") -> str:
    """A PEM signing request for the key. The name in it is a courtesy: the authority ignores it."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    request = x509.CertificateSigningRequestBuilder(x509.Name(attributes)).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def requested_key(csr: str) -> PublicKey:
    """The public key of a PEM signing request, once it has proved that it has the private one.

    Everything else in the request (names, extensions, CA flag) is ignored. Raises `RequestRefusedError`.
    """
    if len(csr) > MAX_CSR:
        raise RequestRefusedError(f"the signing request is longer than {MAX_CSR} bytes")
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        if not request.is_signature_valid:
            raise RequestRefusedError("the signing request is not signed by its own key")
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RequestRefusedError(f"not a signing request: {error}") from error
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            raise RequestRefusedError(f"the curve {key.curve.name} is not accepted; use P-256 or P-384")
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise RequestRefusedError(f"an RSA key needs {MIN_RSA_BITS} bits, not {key.key_size}")
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise RequestRefusedError(f"keys of type {type(key).__name__} are not accepted")
