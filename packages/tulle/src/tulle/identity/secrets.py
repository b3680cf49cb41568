"""Secrets as xDS carries them: a certificate with its key, and what to trust."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from tulle.protos import from_dict, message, pack_any, serialize

OWN, ROOT = "default", "ROOTCA"
"""The names of the two secrets, as in Istio."""

_SPIFFE = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 (a type URL)


@dataclass(frozen=True, slots=True)
class Secret:
    """A resource; `body` is a serialized `Any`."""

    name: str
    version: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Secrets:
    """A snapshot of secrets only."""

    resources: Mapping[str, Mapping[str, Secret]]
    version: str


def snapshot(secrets: Iterable[Secret]) -> Secrets:
    """A snapshot of these."""
    by_name = {secret.name: secret for secret in secrets}
    return Secrets({SECRET: by_name}, "".join(secret.version for secret in by_name.values()))


def own_secret(chain: str, key: str) -> Secret:
    """A certificate chain (leaf first) and its key, in PEM."""
    return _secret(
        OWN, {"tls_certificate": {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}}
    )


def root_secret(roots: str, lists: str, federated: Mapping[str, str]) -> Secret:
    """The roots to trust, the one that signs first, and revocation lists (none: nothing was revoked), in PEM.

    `federated` has the roots of all trust domains, the mesh's own among them, where there is another (else it is
    empty): then Envoy's SPIFFE validator is asked for, which takes each certificate under the roots of its own trust
    domain only. (It does not look at revocation lists.)
    """
    context: dict[str, Any] = {"trusted_ca": {"inline_string": roots}}
    if lists:
        # Issuers above the one that signs leaves keep their own lists, elsewhere.
        context |= {"crl": {"inline_string": lists}, "only_verify_leaf_cert_crl": True}
    if federated:
        bundles = [{"name": name, "trust_bundle": {"inline_string": federated[name]}} for name in sorted(federated)]
        config = {"@type": f"type.googleapis.com/{_SPIFFE}", "trust_domains": bundles}
        context["custom_validator_config"] = {"name": "envoy.tls.cert_validator.spiffe", "typed_config": config}
    return _secret(ROOT, {"validation_context": context})


def federated_of(context: Any) -> dict[str, str]:
    """As `root_secret` was given it, of a validation context that was received."""
    if not context.HasField("custom_validator_config"):
        return {}
    config = message(_SPIFFE).FromString(context.custom_validator_config.typed_config.value)
    return {each.name: each.trust_bundle.inline_string for each in config.trust_domains}


def _secret(name: str, content: dict[str, Any]) -> Secret:
    full_name = SECRET.partition("/")[2]
    body = serialize(pack_any(from_dict(full_name, {"name": name, **content})))
    return Secret(name, blake2b(body, digest_size=12).hexdigest(), body)
