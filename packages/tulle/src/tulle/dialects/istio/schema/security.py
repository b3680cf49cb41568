"""AuthorizationPolicy, PeerAuthentication, RequestAuthentication: https://istio.io/latest/docs/reference/config/security/."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

import ipaddress
import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tulle.dialects.fields import HeaderName, PositiveDuration, Schema
from tulle.dialects.istio.schema.common import LabelSelector
from tulle.dialects.metadata import Envelope
from tulle.objects import show


def _block(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"must be an IP address or network such as 10.0.0.0/8, not {show(text)}") from error
    return text


def _port(text: str) -> str:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise ValueError(f'must be a port in quotes, "1" to "65535", not {show(text)}')
    return text


_NUMBERS = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",), "oct": ("k",)}
"""What a key of each type consists of, in base64url (RFC 7518, 6; RFC 8037, 2)."""


def _keys(text: str) -> str:
    """Refuses what a data plane would: it would keep the policies it had before."""
    try:
        keys = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError('must be a JSON Web Key Set: {"keys": [...]}') from error
    if not isinstance(keys, list) or not keys:
        raise ValueError("must have at least one key")
    for index, key in enumerate(keys):
        wanted = _NUMBERS.get(str(key.get("kty"))) if isinstance(key, dict) else None
        if wanted is None or not all(_is_number(key.get(name)) for name in wanted):
            raise ValueError(
                f"keys[{index}] must have a kty ({', '.join(_NUMBERS)}) and its numbers in base64url"
            )
    return text


def _is_number(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,2048}", text) is not None


Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=2048)]], Field(min_length=1)]
Blocks = Annotated[list[Annotated[str, AfterValidator(_block)]], Field(min_length=1)]
Ports = Annotated[list[Annotated[str, AfterValidator(_port)]], Field(min_length=1)]


class Source(Schema):
    """Who calls; every field that is given must match."""

    principals: Words | None = None
    not_principals: Words | None = None
    request_principals: Words | None = None
    not_request_principals: Words | None = None
    namespaces: Words | None = None
    not_namespaces: Words | None = None
    service_accounts: Words | None = None
    not_service_accounts: Words | None = None
    ip_blocks: Blocks | None = None
    not_ip_blocks: Blocks | None = None
    remote_ip_blocks: Blocks | None = None
    not_remote_ip_blocks: Blocks | None = None


class From(Schema):
    """One alternative."""

    source: Source


class Operation(Schema):
    """What is called; every field that is given must match."""

    hosts: Words | None = None
    not_hosts: Words | None = None
    ports: Ports | None = None
    not_ports: Ports | None = None
    methods: Words | None = None
    not_methods: Words | None = None
    paths: Words | None = None
    not_paths: Words | None = None


class To(Schema):
    """One alternative."""

    operation: Operation


class When(Schema):
    """A condition on one attribute."""

    key: Annotated[str, Field(min_length=1)]
    values: Words | None = None
    not_values: Words | None = None


class Rule(Schema):
    """Nothing given matches everything."""

    from_: Annotated[list[From], Field(min_length=1)] | None = Field(default=None, alias="from")
    to: Annotated[list[To], Field(min_length=1)] | None = None
    when: Annotated[list[When], Field(min_length=1)] | None = None


class TargetRef(Schema):
    """What the policy is attached to: a Service, or a Gateway."""

    group: str = ""
    kind: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    namespace: str | None = None


class Provider(Schema):
    """An extension provider by name."""

    name: str


class AuthorizationPolicySpec(Schema):
    """Without rules nothing is matched: ALLOW then refuses everything."""

    selector: LabelSelector | None = None
    target_ref: TargetRef | None = None
    target_refs: list[TargetRef] = []
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    rules: list[Rule] = []
    provider: Provider | None = None


class AuthorizationPolicy(Envelope):
    """security.istio.io AuthorizationPolicy."""

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()


class MutualTls(Schema):
    """Which connections are taken."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"


class PeerAuthenticationSpec(Schema):
    """``portLevelMtls`` is by the application's port and needs a selector."""

    selector: LabelSelector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: dict[str, MutualTls] = {}


class PeerAuthentication(Envelope):
    """security.istio.io PeerAuthentication."""

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()


class JwtHeader(Schema):
    """A header that may hold a token, after ``prefix``."""

    name: HeaderName
    prefix: str = ""


class ClaimToHeader(Schema):
    """The application gets the claim in this header."""

    header: HeaderName
    claim: Annotated[str, Field(min_length=1)]


class JwtRule(Schema):
    """One issuer, with its keys inline or where to get them."""

    issuer: Annotated[str, Field(min_length=1)]
    audiences: list[Annotated[str, Field(min_length=1)]] = []
    jwks_uri: Annotated[str, Field(pattern=r"^https?://[^/]+")] | None = None
    jwks: Annotated[str, AfterValidator(_keys)] | None = None
    from_headers: list[JwtHeader] = []
    from_params: list[Annotated[str, Field(min_length=1)]] = []
    from_cookies: list[Annotated[str, Field(min_length=1)]] = []
    output_payload_to_header: HeaderName | None = None
    forward_original_token: bool = False
    output_claim_to_headers: list[ClaimToHeader] = []
    timeout: PositiveDuration | None = None
    space_delimited_claims: list[Annotated[str, Field(min_length=1)]] = []


class RequestAuthenticationSpec(Schema):
    """Whose tokens are believed."""

    selector: LabelSelector | None = None
    target_ref: TargetRef | None = None
    target_refs: list[TargetRef] = []
    jwt_rules: list[JwtRule] = []


class RequestAuthentication(Envelope):
    """security.istio.io RequestAuthentication."""

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()
