"""The linked mesh: every reference resolved, every conflict decided; all that emission needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tulle.model.access import UNGUARDED, Guard, Issuer
from tulle.model.meta import Labels, Visibility
from tulle.model.policies import Subset, TrafficPolicy
from tulle.model.routes import ConnectionRule, HttpRule
from tulle.model.services import Protocol, Resolution
from tulle.model.settings import CallerPolicy, MeshSettings
from tulle.model.source import SourceRef
from tulle.model.workloads import WorkloadRef


@dataclass(frozen=True, slots=True)
class LinkedPort:
    """A service port with its protocol selected and its target known (by number or workload port name)."""

    number: int
    name: str
    protocol: Protocol
    target: int | str


@dataclass(frozen=True, slots=True)
class LinkedService:
    """A service under one full name, `host`. `short` is its name within its namespace (None for hosts that
    are not of the cluster's domain).
    """

    host: str
    name: str
    namespace: str
    source: SourceRef
    ports: tuple[LinkedPort, ...]
    resolution: Resolution
    visibility: Visibility
    short: str | None = None
    subject_alt_names: tuple[str, ...] = ()
    external: bool = False
    headless: bool = False

    def port(self, number: int) -> LinkedPort | None:
        """The port of that number, or None."""
        return next((port for port in self.ports if port.number == number), None)

    @property
    def default_port(self) -> LinkedPort | None:
        """What an authority without port means: 80 if the service has it, else its first HTTP port."""
        http = [port for port in self.ports if port.protocol.is_http or port.protocol is Protocol.UNKNOWN]
        return next((port for port in http if port.number == 80), http[0] if http else None)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a connection goes. `mtls`: a sidecar answers there. `port` 0 occurs with unix addresses only."""

    address: str
    port: int
    labels: Labels
    mtls: bool
    weight: int = 1
    locality: str = ""
    workload: str = ""
    namespace: str = ""
    account: str | None = None


@dataclass(frozen=True, slots=True)
class PortEndpoints:
    port: int
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class ServiceEndpoints:
    """A service's endpoints by port, sorted. `accounts` are the SPIFFE ids that may answer for it."""

    host: str
    ports: tuple[PortEndpoints, ...] = ()
    accounts: tuple[str, ...] = ()

    def of(self, port: int) -> tuple[Endpoint, ...]:
        """The endpoints behind one service port."""
        return next((group.endpoints for group in self.ports if group.port == port), ())

    @property
    def has_plaintext(self) -> bool:
        """Whether some endpoint has no sidecar, so that the whole cluster must speak what the app speaks."""
        return any(not endpoint.mtls for group in self.ports for endpoint in group.endpoints)


@dataclass(frozen=True, slots=True)
class BoundRule:
    """An HTTP rule with its destinations resolved, and who sees it. `ports` empty: every port."""

    rule: HttpRule
    owner: str
    namespace: str
    gateways: tuple[str, ...]
    visibility: Visibility
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BoundConnectionRule:
    """A TCP or TLS rule with its destinations resolved, and who sees it."""

    rule: ConnectionRule
    namespace: str
    gateways: tuple[str, ...]
    visibility: Visibility
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HostRoutes:
    """Everything that routes one host (canonical name, or as written when no service has it), in order."""

    host: str
    http: tuple[BoundRule, ...] = ()
    tls: tuple[BoundConnectionRule, ...] = ()
    tcp: tuple[BoundConnectionRule, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkedPolicy:
    """The merged policies of one namespace (and workload selector) for a host or `*.suffix`."""

    host: str
    namespace: str
    policy: TrafficPolicy
    subsets: tuple[Subset, ...]
    visibility: Visibility
    workload_selector: Labels = ()

    def subset(self, name: str) -> Subset | None:
        """The subset of that name, or None."""
        return next((subset for subset in self.subsets if subset.name == name), None)


@dataclass(frozen=True, slots=True)
class Inbound:
    """One application port behind a sidecar. `services` are the canonical hosts that lead to it; `guard` is
    what a connection and a request must pass.
    """

    app: int
    listen: int
    protocol: Protocol
    services: tuple[str, ...] = ()
    guard: Guard = UNGUARDED


@dataclass(frozen=True, slots=True)
class LinkedUpstream:
    """127.0.0.1:`local_port` → `port` of the service `host`."""

    host: str
    port: int
    local_port: int


@dataclass(frozen=True, slots=True)
class PlacedWorkload:
    """A workload with a sidecar of ours and the ports it was given; `account` is its SPIFFE id. By the tokens of
    `issuers` its own calls may be routed. `network_namespace`: as in `Placement`.
    """

    ref: WorkloadRef
    labels: Labels
    address: str
    service_account: str
    account: str
    outbound: int
    admin: int
    locality: str = ""
    inbound: tuple[Inbound, ...] = ()
    upstreams: tuple[LinkedUpstream, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    network_namespace: str = ""


@dataclass(frozen=True, slots=True)
class Mesh:
    """Structure (settings to policies) and, apart from it, what changes often (endpoints, workloads).

    Mappings are keyed by canonical host, by WorkloadRef, or (`callers`) by namespace, in sorted order, and never
    changed.
    """

    settings: MeshSettings
    services: Mapping[str, LinkedService]
    routes: Mapping[str, HostRoutes]
    policies: Mapping[str, tuple[LinkedPolicy, ...]]
    endpoints: Mapping[str, ServiceEndpoints]
    workloads: Mapping[WorkloadRef, PlacedWorkload]
    callers: Mapping[str, tuple[CallerPolicy, ...]] = field(default_factory=dict)
