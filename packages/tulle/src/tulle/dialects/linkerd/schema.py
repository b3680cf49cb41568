"""policy.linkerd.io: https://linkerd.io/2/reference/authorization-policy/."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tulle.dialects.fields import DnsLabel, HeaderName, Host, Port, Schema, Subdomain, Unsupported
from tulle.dialects.metadata import Envelope
from tulle.model.servers import InboundDefault
from tulle.objects import show

_Selecting = Unsupported("select by matchLabels")


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise ValueError(f"must be a network such as 10.0.0.0/8, not {show(text)}") from error


def _policy(text: str) -> str:
    if text not in list(InboundDefault):
        raise ValueError(f"must be one of {', '.join(InboundDefault)}, not {show(text)}")
    return text


Network = Annotated[str, AfterValidator(_network)]
Name = Annotated[str, Field(min_length=1)]


class Selector(Schema):
    """Labels; an empty selector is everything."""

    match_labels: dict[str, str] = {}
    match_expressions: list[Any] = []


class ServerSpec(Schema):
    """One port of the pods that are selected."""

    pod_selector: Selector | None = None
    external_workload_selector: Annotated[Any, Unsupported("select workloads by podSelector")] = None
    port: Port | Name
    proxy_protocol: Literal["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"] = "unknown"
    access_policy: Annotated[str, AfterValidator(_policy)] | None = None


class Server(Envelope):
    """policy.linkerd.io Server."""

    spec: ServerSpec


class CidrExcept(Schema):
    """A network without parts of it."""

    cidr: Network
    except_: list[Network] = Field(default=[], alias="except")


class AccountRef(Schema):
    """A service account."""

    name: Subdomain
    namespace: DnsLabel | None = None


class MeshTls(Schema):
    """Callers by identity."""

    identities: list[Name] = []
    service_accounts: list[AccountRef] = []
    unauthenticated_tls: bool = Field(default=False, alias="unauthenticatedTLS")


class Client(Schema):
    """Who is authorized: from these networks, and of these identities unless nobody is asked for one."""

    networks: list[CidrExcept] = []
    unauthenticated: bool = False
    mesh_tls: MeshTls | None = Field(default=None, alias="meshTLS")


class ServerChoice(Schema):
    """A Server by name, or Servers by label."""

    name: Name | None = None
    selector: Selector | None = None


class ServerAuthorizationSpec(Schema):
    """Whom some Servers let through."""

    server: ServerChoice
    client: Client


class ServerAuthorization(Envelope):
    """policy.linkerd.io ServerAuthorization."""

    spec: ServerAuthorizationSpec


class TargetRef(Schema):
    """A Server, a route, or a namespace."""

    group: str = ""
    kind: Name
    name: Name
    namespace: DnsLabel | None = None


class AuthorizationPolicySpec(Schema):
    """All of the authentications must hold."""

    target_ref: TargetRef
    required_authentication_refs: list[TargetRef] = []


class AuthorizationPolicy(Envelope):
    """policy.linkerd.io AuthorizationPolicy."""

    spec: AuthorizationPolicySpec


class MeshTlsAuthenticationSpec(Schema):
    """One of the identities."""

    identities: list[Name] = []
    identity_refs: list[TargetRef] = []


class MeshTlsAuthentication(Envelope):
    """policy.linkerd.io MeshTLSAuthentication."""

    spec: MeshTlsAuthenticationSpec


class NetworkAuthenticationSpec(Schema):
    """One of the networks."""

    networks: Annotated[list[CidrExcept], Field(min_length=1)]


class NetworkAuthentication(Envelope):
    """policy.linkerd.io NetworkAuthentication."""

    spec: NetworkAuthenticationSpec


class PathMatch(Schema):
    """PathPrefix is of whole segments."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = "/"


class HeaderMatch(Schema):
    """A header's value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: str


class RouteMatch(Schema):
    """Everything that is given must hold."""

    path: PathMatch | None = None
    headers: list[HeaderMatch] = []
    method: Annotated[str, Field(pattern=r"^[A-Z]+$")] | None = None
    query_params: list[Any] = []


class RouteRule(Schema):
    """Alternatives."""

    matches: list[RouteMatch] = []
    filters: Annotated[list[Any], Unsupported("only policy is taken from it")] = []
    backend_refs: Annotated[list[Any], Unsupported("only policy is taken from it")] = []
    timeouts: Annotated[Any, Unsupported("only policy is taken from it")] = None


class HttpRouteSpec(Schema):
    """Requests to Servers."""

    parent_refs: Annotated[list[TargetRef], Field(min_length=1)]
    hostnames: list[Host] = []
    rules: Annotated[list[RouteRule], Field(min_length=1)]


class HttpRoute(Envelope):
    """policy.linkerd.io HTTPRoute."""

    spec: HttpRouteSpec


