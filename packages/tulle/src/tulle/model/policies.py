"""How to talk to a destination once it is chosen: balancing, limits, ejection, TLS, subsets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

from tulle.model.meta import PUBLIC, Labels, Meta, Visibility
from tulle.model.resilience import Resilience
from tulle.model.source import SourceRef


class Balancing(StrEnum):
    """PASSTHROUGH connects to the address the caller asked for."""

    ROUND_ROBIN = "round-robin"
    LEAST_REQUEST = "least-request"
    RANDOM = "random"
    PASSTHROUGH = "passthrough"


class HashAlgorithm(StrEnum):
    RING_HASH = "ring-hash"
    MAGLEV = "maglev"


@dataclass(frozen=True, slots=True)
class HashHeader:
    name: str


@dataclass(frozen=True, slots=True)
class HashCookie:
    """`ttl` None: only an existing cookie is used; zero: a session cookie is made; else one of that life."""

    name: str
    path: str | None = None
    ttl: timedelta | None = None


@dataclass(frozen=True, slots=True)
class HashQuery:
    name: str


@dataclass(frozen=True, slots=True)
class HashSourceIp:
    """Hash on the caller's address."""


HashKey: TypeAlias = HashHeader | HashCookie | HashQuery | HashSourceIp


@dataclass(frozen=True, slots=True)
class ConsistentHash:
    """`ring_size` is Istio's minimumRingSize (default 1024) for RING_HASH, the table size for MAGLEV."""

    keys: tuple[HashKey, ...]
    algorithm: HashAlgorithm = HashAlgorithm.RING_HASH
    ring_size: int | None = None


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """`slow_start` is Istio's warmup duration."""

    method: Balancing | ConsistentHash = Balancing.LEAST_REQUEST
    slow_start: timedelta | None = None


class UpgradePolicy(StrEnum):
    """Istio's h2UpgradePolicy: whether HTTP/1 to the app's service travels as HTTP/2."""

    DEFAULT = "default"
    UPGRADE = "upgrade"
    DO_NOT_UPGRADE = "do-not-upgrade"


@dataclass(frozen=True, slots=True)
class Keepalive:
    probes: int | None = None
    time: timedelta | None = None
    interval: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Limits and timeouts of connections to a destination; None is the default (no limit; connect 10 s)."""

    max_connections: int | None = None
    connect_timeout: timedelta | None = None
    keepalive: Keepalive | None = None
    max_connection_duration: timedelta | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    idle_timeout: timedelta | None = None
    tcp_idle_timeout: timedelta | None = None
    max_concurrent_streams: int | None = None
    upgrade: UpgradePolicy = UpgradePolicy.DEFAULT
    use_client_protocol: bool = False


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """Host ejection. A threshold of 0 switches that detector off; None keeps Istio's default
    (consecutive 5xx 5, gateway errors off). `min_health_percent` is the panic threshold.
    """

    consecutive_5xx: int | None = None
    consecutive_gateway_errors: int | None = None
    consecutive_local_failures: int | None = None
    split_local_errors: bool = False
    interval: timedelta | None = None
    base_ejection_time: timedelta | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None


class TlsMode(StrEnum):
    """DISABLE: plaintext. SIMPLE and MUTUAL originate TLS; ISTIO_MUTUAL uses the mesh identity."""

    DISABLE = "disable"
    SIMPLE = "simple"
    MUTUAL = "mutual"
    ISTIO_MUTUAL = "istio-mutual"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Certificates are file paths; `ca` None uses the system's roots."""

    mode: TlsMode
    sni: str | None = None
    subject_alt_names: tuple[str, ...] = ()
    client_certificate: str | None = None
    private_key: str | None = None
    ca: str | None = None
    credential_name: str | None = None
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True)
class Failover:
    """Traffic of locality `source` goes to locality `target` when its own is unhealthy."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class LocalityShare:
    """For callers in `source`: localities (`region/zone/subzone`, `*` allowed) and their percentages."""

    source: str
    shares: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LocalityPolicy:
    enabled: bool = True
    distribute: tuple[LocalityShare, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """None inherits (subset from destination, port from its enclosing policy); then the default.

    `ports` are port-level settings; as in Istio they replace, not extend, the enclosing settings they name.
    `resilience` is of the host as a whole, whatever its ports and subsets say.
    """

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier: OutlierDetection | None = None
    tls: ClientTls | None = None
    locality: LocalityPolicy | None = None
    ports: tuple[PortPolicy, ...] = ()
    resilience: Resilience | None = None


@dataclass(frozen=True, slots=True)
class PortPolicy:
    """Settings for one service port; `policy.ports` is empty."""

    port: int
    policy: TrafficPolicy


@dataclass(frozen=True, slots=True)
class Subset:
    """A named part of a service's endpoints, chosen by labels."""

    source: SourceRef
    name: str
    labels: Labels
    policy: TrafficPolicy = TrafficPolicy()


@dataclass(frozen=True, slots=True)
class DestinationPolicy:
    """Policy and subsets for one host (DestinationRule, …). `host` is as written, resolved by link.

    `workload_selector` (empty: all) names the calling workloads of the object's own namespace it is for.
    """

    meta: Meta
    host: str
    policy: TrafficPolicy = TrafficPolicy()
    subsets: tuple[Subset, ...] = ()
    workload_selector: Labels = ()
    visibility: Visibility = PUBLIC
