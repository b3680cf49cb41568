"""Checks of tokens as Envoy's jwt_authn filter; what it verified is metadata that policies ask about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tulle.model.access import Issuer
from tulle.xds import names
from tulle.xds.wire import duration, extension

METADATA = "envoy.filters.http.jwt_authn"
PAYLOAD = "payload"
"""The key of the verified claims in the filter's metadata (Istio's)."""

_CACHE = {"seconds": 300}
_SPACE_DELIMITED = ("permission", "scope")


def token_filter(issuers: Sequence[Issuer]) -> dict[str, Any]:
    """The filter: a token that is there must be valid for one of the issuers; a request without passes.

    Every issuer must have keys.
    """
    providers = {names.token_provider(index): _provider(each) for index, each in enumerate(issuers)}
    return _any_of(providers, "allow_missing")


def routing_filter(issuers: Sequence[Issuer]) -> dict[str, Any]:
    """The filter of a proxy that routes by claims: it refuses nothing and takes nothing off, which is the called
    side's business; a token that is good lets the route be chosen anew. Every issuer must have keys.
    """
    providers = {
        names.token_provider(index): {
            **_provider(replace(each, forward=True, payload_header=None, claim_headers=())),
            "clear_route_cache": True,
        }
        for index, each in enumerate(issuers)
    }
    return _any_of(providers, "allow_missing_or_failed")


def claim(path: Sequence[str], wanted: dict[str, Any]) -> dict[str, Any]:
    """A MetadataMatcher of a verified claim, one string or a list of them; `wanted` is a ValueMatcher of a string."""
    either = [wanted, {"list_match": {"one_of": wanted}}]
    return {
        "filter": METADATA,
        "path": [{"key": key} for key in (PAYLOAD, *path)],
        "value": {"or_match": {"value_matchers": either}},
    }


def _any_of(providers: dict[str, Any], otherwise: str) -> dict[str, Any]:
    """The filter that wants a token of one of the providers, or else what a JwtRequirement's field says."""
    requirement = [{"provider_name": name} for name in providers]
    requires = {"requires_any": {"requirements": [*requirement, {otherwise: {}}]}}
    return extension(
        METADATA,
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers=providers,
        rules=[{"match": {"prefix": "/"}, "requires": requires}],
        bypass_cors_preflight=True,
    )


def _provider(issuer: Issuer) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "issuer": issuer.issuer,
        "audiences": issuer.audiences,
        "forward": issuer.forward,
        "from_headers": [{"name": each.name, "value_prefix": each.prefix} for each in issuer.headers],
        "from_params": issuer.params,
        "from_cookies": issuer.cookies,
        "payload_in_metadata": PAYLOAD,
        "claim_to_headers": [
            {"header_name": each.header, "claim_name": each.claim} for each in issuer.claim_headers
        ],
        **_keys(issuer),
    }
    # Istio splits these two everywhere
    claims = tuple(dict.fromkeys((*_SPACE_DELIMITED, *issuer.space_delimited)))
    fields["normalize_payload_in_metadata"] = {"space_delimited_claims": claims}
    if issuer.payload_header is not None:
        fields["forward_payload_header"] = issuer.payload_header
    return fields


def has_keys(issuer: Issuer) -> bool:
    """Whether it is known where the issuer's keys are. Envoy refuses a filter without, and keeps what it had."""
    return issuer.jwks is not None or (issuer.key_host is not None and issuer.key_port is not None)


def _keys(issuer: Issuer) -> dict[str, Any]:
    if issuer.jwks is not None:
        return {"local_jwks": {"inline_string": issuer.jwks}}
    assert issuer.key_host is not None
    assert issuer.key_port is not None
    cluster = names.outbound_cluster(issuer.key_host, issuer.key_port)
    uri = {"uri": issuer.jwks_uri, "cluster": cluster, "timeout": duration(issuer.timeout)}
    return {"remote_jwks": {"http_uri": uri, "cache_duration": _CACHE}}
