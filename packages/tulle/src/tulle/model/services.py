"""Services (names that are called) and the endpoints declared with them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulle.model.meta import PUBLIC, Labels, Meta, Visibility
from tulle.model.source import SourceRef


class Protocol(StrEnum):
    """What a port speaks. UNKNOWN is detected per connection; UDP is never routed."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"
    UNKNOWN = "unknown"

    @property
    def is_http(self) -> bool:
        """Whether requests on the port are readable as HTTP without detection."""
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_http2(self) -> bool:
        """Whether the application itself speaks HTTP/2 on the port."""
        return self in (Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)


class Resolution(StrEnum):
    """How endpoints are found. WORKLOADS: selected by label, or given by EndpointSet; STATIC: as declared;
    DNS: every address of each declared name; DNS_ROUND_ROBIN: one at a time; PASSTHROUGH: where asked for.
    """

    WORKLOADS = "workloads"
    STATIC = "static"
    DNS = "dns"
    DNS_ROUND_ROBIN = "dns-round-robin"
    PASSTHROUGH = "passthrough"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port that callers use.

    `target` is the workload's port by number or by name, None the same number. `app_protocol` is appProtocol
    (or Istio's explicit protocol) as written; link selects the protocol from it, else from `name`.
    """

    number: int
    name: str = ""
    target: int | str | None = None
    app_protocol: str | None = None
    transport: str = "TCP"


@dataclass(frozen=True, slots=True)
class EndpointPort:
    """A declared endpoint's own port for the service port called `name`."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class StaticEndpoint:
    """An address declared inside a ServiceEntry or EndpointSlice. A port without entry in `ports` keeps
    the service's target. `address` is an IP, a DNS name (DNS resolutions), or `unix:///path`.
    """

    source: SourceRef
    address: str
    ports: tuple[EndpointPort, ...] = ()
    labels: Labels = ()
    service_account: str | None = None
    weight: int = 1
    locality: str = ""
    network: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A callable name. `hosts` are full names (`reviews.default.svc.cluster.local`, `api.example.com`,
    `*.x.com`); the first is canonical. `selector` None selects nothing; endpoints then are `endpoints`
    and EndpointSets.
    `external` is Istio's MESH_EXTERNAL: its endpoints never have sidecars.
    """

    meta: Meta
    hosts: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    selector: Labels | None = None
    resolution: Resolution = Resolution.WORKLOADS
    endpoints: tuple[StaticEndpoint, ...] = ()
    addresses: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    external: bool = False
    headless: bool = False
    visibility: Visibility = PUBLIC


@dataclass(frozen=True, slots=True)
class EndpointSet:
    """Further endpoints of the service called `host` (EndpointSlice, Endpoints)."""

    meta: Meta
    host: str
    endpoints: tuple[StaticEndpoint, ...]


def service_fqdn(name: str, namespace: str, domain: str = "cluster.local") -> str:
    """The full name of a Kubernetes service."""
    return f"{name}.{namespace}.svc.{domain}"
