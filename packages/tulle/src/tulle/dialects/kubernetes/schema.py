"""The Kubernetes objects as their API defines them (core/v1, discovery.k8s.io/v1)."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tulle.dialects.fields import Address, DnsLabel, Ignored, PlainHost, Port, Schema, Unsupported
from tulle.dialects.metadata import Envelope

_Ignored = Annotated[Any, Ignored()]
_Later = Unsupported()
_OUTSIDE = Unsupported("nothing outside the mesh is opened; use a gateway")

Transport = Literal["TCP", "UDP", "SCTP"]


class ServicePort(Schema):
    """``targetPort`` is a number or the name of a workload's port."""

    name: DnsLabel | None = None
    protocol: Transport = "TCP"
    port: Port
    target_port: int | str | None = None
    app_protocol: Annotated[str, Field(min_length=1)] | None = None
    node_port: Annotated[Any, _OUTSIDE] = None


class ServiceSpec(Schema):
    """ServiceSpec, whole; the fields about addresses inside a cluster have no meaning here."""

    ports: list[ServicePort] = []
    selector: dict[str, str] = {}
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str | None = Field(default=None, alias="clusterIP")
    external_name: PlainHost | None = None
    publish_not_ready_addresses: Annotated[bool, _Later] = False
    session_affinity: Literal["None", "ClientIP"] = "None"
    session_affinity_config: Annotated[Any, Unsupported("use a DestinationRule's consistentHash")] = None
    cluster_ips: _Ignored = Field(default=None, alias="clusterIPs")
    ip_families: _Ignored = None
    ip_family_policy: _Ignored = None
    external_ips: Annotated[Any, _OUTSIDE] = Field(default=None, alias="externalIPs")
    load_balancer_ip: Annotated[Any, _OUTSIDE] = Field(default=None, alias="loadBalancerIP")
    load_balancer_source_ranges: Annotated[Any, _OUTSIDE] = None
    load_balancer_class: Annotated[Any, _OUTSIDE] = None
    external_traffic_policy: Annotated[Any, _OUTSIDE] = None
    health_check_node_port: Annotated[Any, _OUTSIDE] = None
    allocate_load_balancer_node_ports: Annotated[Any, _OUTSIDE] = None
    internal_traffic_policy: Literal["Cluster", "Local"] = "Cluster"
    traffic_distribution: Annotated[Any, _Later] = None


class Service(Envelope):
    """core/v1 Service."""

    spec: ServiceSpec


class ServiceAccount(Envelope):
    """core/v1 ServiceAccount: a name that identities refer to."""

    secrets: _Ignored = None
    image_pull_secrets: _Ignored = None
    automount_service_account_token: _Ignored = None


class Namespace(Envelope):
    """core/v1 Namespace."""

    spec: _Ignored = None


class EndpointPort(Schema):
    """A port of an Endpoints subset or an EndpointSlice."""

    name: str = ""
    port: Port
    protocol: Transport = "TCP"
    app_protocol: str | None = None


class EndpointAddress(Schema):
    """One address of an Endpoints subset."""

    ip: Address
    hostname: _Ignored = None
    node_name: _Ignored = None
    target_ref: _Ignored = None


class EndpointSubset(Schema):
    """Addresses that all serve the same ports."""

    addresses: list[EndpointAddress] = []
    not_ready_addresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class Endpoints(Envelope):
    """core/v1 Endpoints: belongs to the Service of the same name."""

    subsets: list[EndpointSubset] = []


class EndpointConditions(Schema):
    """``ready`` left out counts as ready."""

    ready: bool = True
    serving: bool = True
    terminating: bool = False


class Endpoint(Schema):
    """One endpoint of a slice."""

    addresses: Annotated[list[Address], Field(min_length=1)]
    conditions: EndpointConditions = EndpointConditions()
    zone: str = ""
    hostname: _Ignored = None
    node_name: _Ignored = None
    target_ref: _Ignored = None
    deprecated_topology: _Ignored = None
    hints: Annotated[Any, _Later] = None


class EndpointSlice(Envelope):
    """discovery.k8s.io/v1 EndpointSlice: belongs to the Service its label names."""

    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: list[Endpoint] = []
    ports: list[EndpointPort] = []
