"""DestinationRule: https://istio.io/latest/docs/reference/config/networking/destination-rule/."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tulle.dialects.fields import (
    Count,
    Duration,
    HeaderName,
    Host,
    PercentInt,
    PositiveDuration,
    Schema,
    Signed,
    Unsupported,
)
from tulle.dialects.istio.schema.common import ExportTo, LabelSelector, Later, PortSelector, TlsClientMode
from tulle.dialects.metadata import Envelope


class HttpCookie(Schema):
    """The cookie to hash on; with ``ttl`` it is made where it is missing."""

    name: Annotated[str, Field(min_length=1)]
    path: str | None = None
    ttl: Duration | None = None
    attributes: Annotated[Any, Later] = None


class RingHash(Schema):
    """Ketama ring."""

    minimum_ring_size: Annotated[int, Field(ge=1, le=8_388_608)] | None = None


class MagLev(Schema):
    """Maglev table; its size is a prime."""

    table_size: Annotated[int, Field(ge=1, le=5_000_011)] | None = None


class ConsistentHash(Schema):
    """Exactly one key, and at most one of ringHash and maglev."""

    http_header_name: HeaderName | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: Annotated[str, Field(min_length=1)] | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: Annotated[int, Field(ge=0, le=8_388_608)] | None = None


class Distribute(Schema):
    """Shares, in per cent, of the traffic that comes from ``from``."""

    from_: str = Field(alias="from")
    to: dict[str, Annotated[int, Field(ge=1, le=100)]]


class Failover(Schema):
    """Where the traffic of a region goes when it is unhealthy."""

    from_: str = Field(alias="from")
    to: str


class LocalityLbSetting(Schema):
    """``distribute``, ``failover`` and ``failoverPriority``: at most one, but the last two go together."""

    distribute: list[Distribute] = []
    failover: list[Failover] = []
    failover_priority: list[str] = []
    enabled: bool | None = None


class Warmup(Schema):
    """Slow start of new endpoints."""

    duration: PositiveDuration
    minimum_percent: Annotated[Any, Later] = None
    aggression: Annotated[Any, Later] = None


class LoadBalancer(Schema):
    """``simple`` and ``consistentHash`` exclude each other."""

    simple: (
        Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None
    ) = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    warmup_duration_secs: PositiveDuration | None = None
    warmup: Warmup | None = None


class TcpKeepalive(Schema):
    """Keep-alive probes of idle connections."""

    probes: Count | None = None
    time: Duration | None = None
    interval: Duration | None = None


class TcpSettings(Schema):
    """Limits for HTTP and TCP connections alike."""

    max_connections: Signed | None = None
    connect_timeout: PositiveDuration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: PositiveDuration | None = None
    idle_timeout: Duration | None = None


class HttpSettings(Schema):
    """Limits for HTTP."""

    http1_max_pending_requests: Signed | None = None
    http2_max_requests: Signed | None = None
    max_requests_per_connection: Annotated[Signed, Field(le=536_870_912)] | None = None
    max_retries: Signed | None = None
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: Signed | None = None


class ConnectionPool(Schema):
    """Connection pool settings."""

    tcp: TcpSettings = TcpSettings()
    http: HttpSettings = HttpSettings()


class OutlierDetection(Schema):
    """``consecutiveErrors`` is the name of Istio before 1.5."""

    consecutive_errors: Signed | None = None
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: Count | None = None
    consecutive_gateway_errors: Count | None = None
    consecutive5xx_errors: Count | None = Field(default=None, alias="consecutive5xxErrors")
    interval: PositiveDuration | None = None
    base_ejection_time: PositiveDuration | None = None
    max_ejection_percent: PercentInt | None = None
    min_health_percent: PercentInt | None = None


class ClientTls(Schema):
    """TLS towards the destination."""

    mode: TlsClientMode = "DISABLE"
    client_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    ca_crl: Annotated[str | None, Later] = None
    credential_name: str | None = None
    subject_alt_names: list[str] = []
    sni: str | None = None
    insecure_skip_verify: bool = False


class PortTrafficPolicy(Schema):
    """The policy of one port; it replaces the destination's."""

    port: PortSelector
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None


class TrafficPolicy(Schema):
    """The policy of a destination or a subset."""

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    port_level_settings: list[PortTrafficPolicy] = []
    tunnel: Annotated[Any, Later] = None
    proxy_protocol: Annotated[Any, Later] = None
    retry_budget: Annotated[Any, Unsupported("connectionPool.http.maxRetries limits retries")] = None


class Subset(Schema):
    """A named part of the destination's endpoints."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*)$")]
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Schema):
    """Policies for one host."""

    host: Host
    traffic_policy: TrafficPolicy | None = None
    subsets: list[Subset] = []
    export_to: ExportTo = []
    workload_selector: LabelSelector | None = None


class DestinationRule(Envelope):
    """networking.istio.io DestinationRule."""

    spec: DestinationRuleSpec
