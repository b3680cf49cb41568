"""Clusters: one per service port and subset, and one per application port behind a sidecar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.model.mesh import Inbound, LinkedPort, LinkedService, ServiceEndpoints
from tulle.model.policies import (
    Subset,
    TlsMode,
    TrafficPolicy,
    UpgradePolicy,
)
from tulle.model.services import Protocol, Resolution
from tulle.model.settings import MeshSettings
from tulle.protos import message
from tulle.xds import egress, names, tls
from tulle.xds.cluster_policies import (
    HTTP_OPTIONS,
    UNSET_POOL,
    UpstreamHttp,
    apply_policy,
    auto_named,
    http_options,
)
from tulle.xds.effective import at_port
from tulle.xds.endpoints import load_assignment, subset_endpoints
from tulle.xds.extensions import extend
from tulle.xds.scope import OutboundService
from tulle.xds.wire import ADS, NO_TIMEOUT, socket_address, source_within, struct, struct_list

CLUSTER = "envoy.config.cluster.v3.Cluster"

_DISCOVERY = {
    Resolution.WORKLOADS: "EDS",
    Resolution.STATIC: "EDS",
    Resolution.DNS: "STRICT_DNS",
    Resolution.DNS_ROUND_ROBIN: "LOGICAL_DNS",
    Resolution.PASSTHROUGH: "STRICT_DNS",
}
_EDS = (Resolution.WORKLOADS, Resolution.STATIC)


@dataclass(frozen=True, slots=True)
class Target:
    """One cluster to make: a service's port, whole or a subset, with the policy that holds for it."""

    service: LinkedService
    port: LinkedPort
    subset: Subset | None
    policy: TrafficPolicy

    @property
    def name(self) -> str:
        """The cluster's name."""
        return names.outbound_cluster(self.service.host, self.port.number, self._subset)

    @property
    def sni(self) -> str:
        """The server name sent to sidecars."""
        return names.outbound_sni(self.service.host, self.port.number, self._subset)

    @property
    def _subset(self) -> str:
        return "" if self.subset is None else self.subset.name


def targets(outbound: OutboundService) -> Iterator[Target]:
    """Every cluster of a service."""
    for port in outbound.service.ports:
        if port.protocol is Protocol.UDP:
            continue
        for subset in (None, *outbound.subsets):
            yield Target(outbound.service, port, subset, at_port(outbound.policy, subset, port.number))


def outbound_cluster(target: Target, endpoints: ServiceEndpoints, settings: MeshSettings) -> Any:
    """The Cluster of one target. Of `endpoints` it depends on the accounts and on plaintext ones being there,
    and for DNS resolutions on the names.
    """
    service, policy = target.service, target.policy
    cluster = message(CLUSTER)(name=target.name, metadata=service_metadata([service]))
    apply_policy(cluster, policy)
    extend(cluster, policy.resilience)
    _discovery(cluster, target, endpoints)
    if service.external or service.resolution not in _EDS:
        egress.guard(cluster, settings)
    _transport(cluster, target, endpoints, settings)
    pool = policy.connection_pool or UNSET_POOL
    options = cluster.typed_extension_protocol_options
    if egress.is_dynamic(service):
        options[HTTP_OPTIONS].CopyFrom(auto_named(upstream_http(target, endpoints), pool))
    elif target.port.protocol.is_http or target.port.protocol is Protocol.UNKNOWN:
        options[HTTP_OPTIONS].CopyFrom(http_options(upstream_http(target, endpoints), pool))
    return cluster


def _discovery(cluster: Any, target: Target, endpoints: ServiceEndpoints) -> None:
    """Where the endpoints come from. A host that is called as it is named is looked up by that name."""
    resolution = target.service.resolution
    if egress.is_dynamic(target.service):
        egress.make_dynamic(cluster)
        return
    cluster.type = cluster.DiscoveryType.Value(_DISCOVERY[resolution])
    if resolution in _EDS:
        cluster.eds_cluster_config.MergeFrom(
            message(f"{CLUSTER}.EdsClusterConfig")(
                eds_config={**ADS, "initial_fetch_timeout": NO_TIMEOUT}, service_name=target.name
            )
        )
        return
    chosen = subset_endpoints(endpoints.of(target.port.number), target.subset)
    cluster.load_assignment.CopyFrom(load_assignment(target.name, chosen))
    cluster.respect_dns_ttl = True


def upstream_http(target: Target, among: ServiceEndpoints) -> UpstreamHttp:
    """Which HTTP the cluster speaks.

    Sidecars are called over h2 whatever their application speaks. Where some endpoint has no sidecar, the
    whole cluster must speak what the application itself understands (sidecars take both).
    """
    protocol = target.port.protocol
    pool = target.policy.connection_pool or UNSET_POOL
    if protocol.is_http2 or pool.upgrade is UpgradePolicy.UPGRADE:
        return UpstreamHttp.HTTP2
    if protocol is Protocol.UNKNOWN or pool.use_client_protocol:
        return UpstreamHttp.AS_CALLER
    if among.has_plaintext or target.service.external or pool.upgrade is UpgradePolicy.DO_NOT_UPGRADE:
        return UpstreamHttp.HTTP1
    return UpstreamHttp.HTTP2


def _alpn(target: Target, among: ServiceEndpoints) -> tuple[str, ...]:
    """What TLS offers: nothing for TCP, nor where the connection pool's own protocol decides."""
    if not target.port.protocol.is_http:
        return ()
    speak = upstream_http(target, among)
    return {UpstreamHttp.HTTP2: ("h2",), UpstreamHttp.HTTP1: ("http/1.1",)}.get(speak, ())


def _transport(cluster: Any, target: Target, endpoints: ServiceEndpoints, settings: MeshSettings) -> None:
    """The mesh's mTLS where the endpoint has a sidecar, unless the policy says otherwise."""
    policy, service = target.policy.tls, target.service
    alpn = _alpn(target, endpoints)
    if policy is not None and policy.mode in (TlsMode.SIMPLE, TlsMode.MUTUAL):
        server = tls.Server(service.host, service.subject_alt_names, alpn)
        cluster.transport_socket.MergeFrom(_socket(tls.originate(policy, server, settings.tls)))
        return
    if service.resolution is Resolution.PASSTHROUGH or (
        policy is not None and policy.mode is TlsMode.DISABLE
    ):
        return
    accounts: Sequence[str] = endpoints.accounts
    if policy is not None and policy.subject_alt_names:
        accounts = policy.subject_alt_names
    sni = target.sni if policy is None or policy.sni is None else policy.sni
    if policy is not None and policy.mode is TlsMode.ISTIO_MUTUAL:
        cluster.transport_socket.MergeFrom(_socket(tls.mesh_client(sni, accounts, alpn, settings.mesh_curves)))
        return
    if service.external or not settings.auto_mtls:
        return
    cluster.transport_socket_matches.add(
        name="tlsMode-istio",
        match=struct({"tlsMode": "istio"}),
        transport_socket=tls.mesh_client(sni, accounts, alpn, settings.mesh_curves),
    )
    cluster.transport_socket_matches.add(name="tlsMode-disabled", match={}, transport_socket=tls.plaintext())


def _socket(fields: dict[str, Any]) -> Any:
    return message("envoy.config.core.v3.TransportSocket")(**fields)


@dataclass(frozen=True, slots=True)
class Application:
    """Where the application itself listens: an address, in a Linux network namespace where it has one."""

    address: str
    namespace: str = ""


def inbound_cluster(inbound: Inbound, at: Application, services: Sequence[LinkedService]) -> Any:
    """The Cluster of the application's own port: plaintext, as the application speaks it."""
    cluster = message(CLUSTER)(
        name=names.inbound_cluster(inbound.app),
        type="STATIC",
        metadata=service_metadata(services),
        load_assignment={
            "cluster_name": names.inbound_cluster(inbound.app),
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": socket_address(at.address, inbound.app)}}]}
            ],
        },
    )
    if at.namespace:
        bind = message("envoy.config.core.v3.BindConfig")(**source_within(at.namespace, at.address))
        cluster.upstream_bind_config.CopyFrom(bind)
    apply_policy(cluster, TrafficPolicy())
    cluster.lb_policy = cluster.LbPolicy.Value("ROUND_ROBIN")
    if inbound.protocol.is_http or inbound.protocol is Protocol.UNKNOWN:
        if inbound.protocol is Protocol.UNKNOWN:
            speak = UpstreamHttp.AS_CALLER
        else:
            speak = UpstreamHttp.HTTP2 if inbound.protocol.is_http2 else UpstreamHttp.HTTP1
        cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(http_options(speak))
    return cluster


def missing_cluster(name: str) -> Any:
    """A cluster without endpoints for a destination that nobody declares: its requests are answered 503."""
    return message(CLUSTER)(
        name=name, type="STATIC", connect_timeout={"seconds": 1}, load_assignment={"cluster_name": name}
    )


def service_metadata(services: Sequence[LinkedService]) -> Any:
    """Istio's cluster metadata, from which telemetry takes the destination service's labels."""
    made = message("envoy.config.core.v3.Metadata")()
    if services:
        entries = [{"host": each.host, "name": each.name, "namespace": each.namespace} for each in services]
        made.filter_metadata["istio"].CopyFrom(struct_list("services", entries))
    return made
