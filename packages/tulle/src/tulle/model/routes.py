"""What to do with requests to a host: rules, actions and what rides along with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from tulle.model.access import OperationsRef
from tulle.model.matching import ConnectionMatch, RouteMatch, StringMatch
from tulle.model.meta import PUBLIC, Meta, Visibility
from tulle.model.source import SourceRef

MESH_GATEWAY = "mesh"
"""The reserved gateway name that means every sidecar."""


@dataclass(frozen=True, slots=True)
class Percent:
    """A share in millionths, so that 0.0001 % is still exact."""

    millionths: int

    @classmethod
    def of(cls, percent: float) -> Percent:
        """From a percentage, 0 to 100."""
        return cls(round(percent * 10_000))


@dataclass(frozen=True, slots=True)
class HeaderValue:
    """Values may hold Envoy substitutions (`%REQ(x)%`), which pass through unchanged."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class HeaderOps:
    """Changes to one header block, applied set, then add, then remove."""

    set: tuple[HeaderValue, ...] = ()
    add: tuple[HeaderValue, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeaderRules:
    request: HeaderOps = HeaderOps()
    response: HeaderOps = HeaderOps()


@dataclass(frozen=True, slots=True)
class Destination:
    """A weighted target. `host` is as written (short, FQDN or external), resolved by link against the
    namespace of the object; `port` may be omitted when the service has one port, or to keep the port
    that was addressed. Weights are ratios; 0 is legal and receives nothing.
    """

    source: SourceRef
    host: str
    port: int | None = None
    subset: str | None = None
    weight: int = 1
    headers: HeaderRules = HeaderRules()


@dataclass(frozen=True, slots=True)
class Mirror:
    destination: Destination
    percent: Percent = Percent(1_000_000)


@dataclass(frozen=True, slots=True)
class PathRegexRewrite:
    """RE2 pattern and substitution (`\\1`)."""

    pattern: str
    substitution: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """At most one of `prefix` (replaces what the match's prefix matched; the whole path for an exact or regex
    match, as in Istio), `full_path` and `regex`; `authority` replaces the Host sent upstream.
    """

    prefix: str | None = None
    full_path: str | None = None
    regex: PathRegexRewrite | None = None
    authority: str | None = None


class RetryOn(StrEnum):
    """Envoy's retry conditions, by their Envoy names."""

    FIVE_XX = "5xx"
    GATEWAY_ERROR = "gateway-error"
    RESET = "reset"
    RESET_BEFORE_REQUEST = "reset-before-request"
    CONNECT_FAILURE = "connect-failure"
    REFUSED_STREAM = "refused-stream"
    RETRIABLE_4XX = "retriable-4xx"
    RETRIABLE_STATUS_CODES = "retriable-status-codes"
    RETRIABLE_HEADERS = "retriable-headers"
    ENVOY_RATELIMITED = "envoy-ratelimited"
    HTTP3_POST_CONNECT_FAILURE = "http3-post-connect-failure"
    GRPC_CANCELLED = "cancelled"
    GRPC_DEADLINE_EXCEEDED = "deadline-exceeded"
    GRPC_INTERNAL = "internal"
    GRPC_RESOURCE_EXHAUSTED = "resource-exhausted"
    GRPC_UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` counts retries, not tries; 0 switches retries off.

    `on` empty means Istio's default conditions. `status_codes` go with RETRIABLE_STATUS_CODES.
    """

    attempts: int
    per_try_timeout: timedelta | None = None
    on: tuple[RetryOn, ...] = ()
    status_codes: tuple[int, ...] = ()
    backoff: timedelta | None = None
    max_backoff: timedelta | None = None
    other_localities: bool = False
    keep_previous_hosts: bool = False


@dataclass(frozen=True, slots=True)
class FaultDelay:
    duration: timedelta
    percent: Percent


@dataclass(frozen=True, slots=True)
class FaultAbort:
    """Exactly one of the statuses; `grpc_status` is the code's number."""

    percent: Percent
    http_status: int | None = None
    grpc_status: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


@dataclass(frozen=True, slots=True)
class Cors:
    """`forward_unmatched_preflights` None keeps Envoy's default (forward)."""

    allow_origins: tuple[StringMatch, ...]
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: timedelta | None = None
    allow_credentials: bool | None = None
    forward_unmatched_preflights: bool | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """Send to one of the destinations, by weight."""

    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class Redirect:
    """An HTTP redirect. At most one of `path` and `prefix`; `port` None keeps Envoy's choice;
    `scheme_port` drops the port in favour of the scheme's own (Istio's FROM_PROTOCOL_DEFAULT).
    """

    status: int = 301
    path: str | None = None
    prefix: str | None = None
    authority: str | None = None
    scheme: str | None = None
    port: int | None = None
    scheme_port: bool = False


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """`body` None sends no body."""

    status: int
    body: bytes | None = None


Action: TypeAlias = Forward | Redirect | DirectResponse


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One HTTP route: tried when any of `matches` holds (none: always). `timeout` None means none (Istio);
    `retry` None means Istio's default retries, `Retry(attempts=0)` none. `matched_by` names operations of
    other objects as further alternatives; once linked they are among `matches`.
    """

    source: SourceRef
    action: Action
    name: str = ""
    matches: tuple[RouteMatch, ...] = ()
    matched_by: tuple[OperationsRef, ...] = ()
    rewrite: Rewrite | None = None
    timeout: timedelta | None = None
    retry: Retry | None = None
    fault: Fault | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    headers: HeaderRules = HeaderRules()


@dataclass(frozen=True, slots=True)
class ConnectionRule:
    """One TCP or TLS-passthrough route."""

    source: SourceRef
    destinations: tuple[Destination, ...]
    matches: tuple[ConnectionMatch, ...] = ()


class Precedence(StrEnum):
    """AS_WRITTEN: the first rule that matches (Istio). MOST_SPECIFIC: the Gateway API's order of matches."""

    AS_WRITTEN = "as-written"
    MOST_SPECIFIC = "most-specific"


@dataclass(frozen=True, slots=True)
class RouteSet:
    """Rules for hosts (VirtualService, HTTPRoute, …). `hosts` are as written and may be `*.suffix`.

    `gateways` are `mesh` or `namespace/name`. `ports` narrows to those service ports (a GAMMA parentRef).
    """

    meta: Meta
    hosts: tuple[str, ...]
    gateways: tuple[str, ...] = (MESH_GATEWAY,)
    http: tuple[HttpRule, ...] = ()
    tls: tuple[ConnectionRule, ...] = ()
    tcp: tuple[ConnectionRule, ...] = ()
    ports: tuple[int, ...] = ()
    precedence: Precedence = Precedence.AS_WRITTEN
    visibility: Visibility = PUBLIC
