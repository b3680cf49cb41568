"""Mints JSON Web Tokens for tests (RFC 7515): keys of every kind, good tokens and forged ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

FAR = 4102444800
"""1 January 2100."""


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, length: int | None = None) -> str:
    """A number as JWK writes it."""
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


@dataclass(slots=True)
class RsaKey:
    """RS256 and the like."""

    alg: str = "RS256"
    kid: str = "rsa"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def jwk(self) -> dict[str, str]:
        public = self.key.public_key().public_numbers()
        return {"kty": "RSA", "kid": self.kid, "n": number(public.n), "e": number(public.e)}

    def sign(self, text: bytes) -> bytes:
        digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[self.alg[2:]]
        if self.alg.startswith("PS"):
            return self.key.sign(text, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return self.key.sign(text, padding.PKCS1v15(), digest)


_CURVES: dict[str, tuple[ec.EllipticCurve, str, int, hashes.HashAlgorithm]] = {
    "ES256": (ec.SECP256R1(), "P-256", 32, hashes.SHA256()),
    "ES384": (ec.SECP384R1(), "P-384", 48, hashes.SHA384()),
    "ES512": (ec.SECP521R1(), "P-521", 66, hashes.SHA512()),
}


@dataclass(slots=True)
class EcKey:
    """ES256 and the like."""

    alg: str = "ES256"
    kid: str = "ec"
    key: ec.EllipticCurvePrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(_CURVES[self.alg][0])

    @property
    def jwk(self) -> dict[str, str]:
        _, name, length, _ = _CURVES[self.alg]
        public = self.key.public_key().public_numbers()
        return {
            "kty": "EC", "crv": name, "kid": self.kid, "x": number(public.x, length), "y": number(public.y, length),
        }  # fmt: skip

    def sign(self, text: bytes) -> bytes:
        _, _, length, digest = _CURVES[self.alg]
        r, s = decode_dss_signature(self.key.sign(text, ec.ECDSA(digest)))
        return r.to_bytes(length, "big") + s.to_bytes(length, "big")


@dataclass(slots=True)
class EdKey:
    """EdDSA with Ed25519."""

    alg: str = "EdDSA"
    kid: str = "ed"
    key: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)

    @property
    def jwk(self) -> dict[str, str]:
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": self.kid,
            "x": b64(self.key.public_key().public_bytes_raw()),
        }

    def sign(self, text: bytes) -> bytes:
        return self.key.sign(text)


@dataclass(slots=True)
class SharedKey:
    """HS256 and the like, with whatever secret."""

    secret: bytes
    alg: str = "HS256"
    kid: str = "shared"

    @property
    def jwk(self) -> dict[str, str]:
        return {"kty": "oct", "kid": self.kid, "k": b64(self.secret)}

    def sign(self, text: bytes) -> bytes:
        return hmac.new(self.secret, text, getattr(hashlib, f"sha{self.alg[2:]}")).digest()


Key = RsaKey | EcKey | EdKey | SharedKey


def jwks(*keys: Key) -> str:
    """A set of the keys' public halves."""
    return json.dumps({"keys": [key.jwk for key in keys]})


def token(key: Key, payload: dict[str, Any], header: dict[str, Any] | None = None) -> str:
    """A token; `header` adds to or replaces what a good one says."""
    said = {"alg": key.alg, "kid": key.kid} | (header or {})
    return raw_token(key, json.dumps({k: v for k, v in said.items() if v is not None}), json.dumps(payload))


def raw_token(key: Key, header: str, payload: str) -> str:
    """A token of whatever texts."""
    text = f"{b64(header.encode())}.{b64(payload.encode())}"
    return f"{text}.{b64(key.sign(text.encode()))}"
