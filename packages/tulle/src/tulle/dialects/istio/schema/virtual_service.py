"""VirtualService: https://istio.io/latest/docs/reference/config/networking/virtual-service/."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tulle.dialects.fields import (
    Duration,
    HeaderName,
    HeaderText,
    Host,
    PercentInt,
    Port,
    PositiveDuration,
    Regex,
    Schema,
    Signed,
    Unsupported,
)
from tulle.dialects.istio.schema.common import (
    Destination,
    ExportTo,
    Later,
    MatchedName,
    OneOf,
    Percent,
    StringMatch,
)
from tulle.dialects.istio.vocabulary import check_grpc_status, check_retry_on
from tulle.dialects.metadata import Envelope


class HttpMatchRequest(Schema):
    """All conditions of one match hold together."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[MatchedName, StringMatch] = {}
    without_headers: dict[MatchedName, StringMatch] = {}
    query_params: dict[str, StringMatch] = {}
    port: Port | None = None
    source_labels: dict[str, str] = {}
    source_namespace: str | None = None
    gateways: list[str] = []
    ignore_uri_case: bool = False
    stat_prefix: Annotated[str | None, Later] = None


class HeaderOperations(Schema):
    """Changes to one header block."""

    set: dict[HeaderName, HeaderText] = {}
    add: dict[HeaderName, HeaderText] = {}
    remove: list[HeaderName] = []


class Headers(Schema):
    """Changes to the headers of requests and of responses."""

    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()


class HttpRouteDestination(Schema):
    """One of several destinations; ``weight`` is a ratio."""

    destination: Destination
    weight: Signed | None = None
    headers: Headers = Headers()


class HttpRedirect(Schema):
    """``port`` and ``derivePort`` exclude each other."""

    uri: str | None = None
    authority: str | None = None
    scheme: Literal["http", "https"] | None = None
    redirect_code: Literal[301, 302, 303, 307, 308] = 301
    port: Port | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None


class HttpBody(OneOf):
    """A response's body as text or as base64 bytes."""

    string: str | None = None
    bytes: str | None = None


class HttpDirectResponse(Schema):
    """An answer without any destination."""

    status: Annotated[int, Field(ge=200, le=599)]
    body: HttpBody | None = None


class Delegate(Schema):
    """Another VirtualService that goes on from here."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Schema):
    """``rewrite`` may use ``\\1`` for the match's groups."""

    match: Regex
    rewrite: str = ""


class HttpRewrite(Schema):
    """``uri`` and ``uriRegexRewrite`` exclude each other."""

    uri: str | None = None
    authority: str | None = None
    uri_regex_rewrite: RegexRewrite | None = None


class HttpRetry(Schema):
    """``attempts`` counts retries, not tries."""

    attempts: Signed = 0
    per_try_timeout: PositiveDuration | None = None
    retry_on: Annotated[str, AfterValidator(check_retry_on)] = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: PositiveDuration | None = None


class FaultDelay(Schema):
    """Requests wait before they are forwarded."""

    fixed_delay: PositiveDuration | None = None
    percentage: Percent | None = None
    percent: PercentInt | None = None
    exponential_delay: Annotated[Any, Later] = None


class FaultAbort(Schema):
    """Requests are answered with an error instead of being forwarded."""

    http_status: Annotated[int, Field(ge=200, le=599)] | None = None
    grpc_status: Annotated[str, AfterValidator(check_grpc_status)] | None = None
    percentage: Percent | None = None
    percent: PercentInt | None = None
    http2_error: Annotated[Any, Later] = None


class HttpFaultInjection(Schema):
    """Delays come before aborts."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HttpMirrorPolicy(Schema):
    """A copy of the traffic, its answers thrown away."""

    destination: Destination
    percentage: Percent | None = None


class CorsPolicy(Schema):
    """Cross-origin rules."""

    allow_origin: list[str] = []
    allow_origins: list[StringMatch] = []
    allow_methods: list[str] = []
    allow_headers: list[HeaderName] = []
    expose_headers: list[HeaderName] = []
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class HttpRoute(Schema):
    """One rule: matches, and exactly one of route, redirect, directResponse and delegate."""

    name: str = ""
    match: list[HttpMatchRequest] = []
    route: list[HttpRouteDestination] = []
    redirect: HttpRedirect | None = None
    direct_response: HttpDirectResponse | None = None
    delegate: Annotated[Delegate | None, Unsupported("the rule is left out")] = None
    rewrite: HttpRewrite | None = None
    timeout: Duration | None = None
    retries: HttpRetry | None = None
    fault: HttpFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: list[HttpMirrorPolicy] = []
    mirror_percent: PercentInt | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers = Headers()


class RouteDestination(Schema):
    """A TCP or TLS destination."""

    destination: Destination
    weight: Signed | None = None


class L4Match(Schema):
    """Conditions on a TCP connection."""

    destination_subnets: list[str] = []
    port: Port | None = None
    source_subnet: Annotated[str | None, Later] = None
    source_labels: dict[str, str] = {}
    gateways: list[str] = []
    source_namespace: str | None = None


class TlsMatch(Schema):
    """Conditions on a TLS connection that is passed through."""

    sni_hosts: Annotated[list[Host], Field(min_length=1)]
    destination_subnets: list[str] = []
    port: Port | None = None
    source_labels: dict[str, str] = {}
    gateways: list[str] = []
    source_namespace: str | None = None


class TcpRoute(Schema):
    """One rule for TCP connections."""

    match: list[L4Match] = []
    route: Annotated[list[RouteDestination], Field(min_length=1)]


class TlsRoute(Schema):
    """One rule for TLS connections by server name."""

    match: Annotated[list[TlsMatch], Field(min_length=1)]
    route: Annotated[list[RouteDestination], Field(min_length=1)]


class VirtualServiceSpec(Schema):
    """Routes for hosts."""

    hosts: list[Host] = []
    gateways: list[str] = []
    http: list[HttpRoute] = []
    tls: list[TlsRoute] = []
    tcp: list[TcpRoute] = []
    export_to: ExportTo = []


class VirtualService(Envelope):
    """networking.istio.io VirtualService."""

    spec: VirtualServiceSpec
