"""Calls to what is not of the mesh: where only the request says where to, and what must never be called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tulle.model.egress import FORBIDDEN, MAPPED
from tulle.model.mesh import LinkedService
from tulle.model.policies import TrafficPolicy
from tulle.model.services import Resolution
from tulle.model.settings import MeshSettings, OutboundPolicy
from tulle.protos import message
from tulle.xds import names
from tulle.xds.client import ClientKind
from tulle.xds.cluster_policies import HTTP_OPTIONS, UNSET_POOL, UpstreamHttp, apply_policy, auto_named
from tulle.xds.wire import extension, typed

GUARD = "tulle.dev/egress"
"""The metadata that makes tulle-proxy check each address of a cluster before it is called."""

_CACHE = {"name": "egress", "dns_lookup_family": "V4_PREFERRED"}
_FORWARD = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig"
_SNI_FORWARD = "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig"
_CLUSTER_CONFIG = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"
_UPSTREAM_IP = "envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher"


def is_dynamic(service: LinkedService) -> bool:
    """Whether only a request's authority or a connection's server name says which host is meant."""
    return service.resolution is Resolution.PASSTHROUGH and service.host.startswith("*")


def goes_anywhere(settings: MeshSettings, services: Iterable[LinkedService]) -> bool:
    """Whether callers need the filter that resolves hosts by name."""
    return settings.outbound is OutboundPolicy.ALLOW_ANY or any(map(is_dynamic, services))


def make_dynamic(cluster: Any) -> None:
    """Makes a cluster of the hosts that requests name."""
    cluster.lb_policy = cluster.LbPolicy.Value("CLUSTER_PROVIDED")
    cluster.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
    cluster.cluster_type.typed_config.CopyFrom(typed(_CLUSTER_CONFIG, dns_cache_config=_CACHE))


def guard(cluster: Any, settings: MeshSettings) -> None:
    """Marks a cluster whose addresses are not the mesh's own."""
    entry = cluster.metadata.filter_metadata[GUARD]
    entry.fields["allow"].list_value.SetInParent()
    for network in settings.allowed_addresses:
        entry.fields["allow"].list_value.values.add().string_value = network


def passthrough_cluster(settings: MeshSettings) -> Any:
    """Where calls to hosts go that nobody declared, when that is allowed."""
    cluster = message("envoy.config.cluster.v3.Cluster")(name=names.PASSTHROUGH_CLUSTER)
    make_dynamic(cluster)
    apply_policy(cluster, TrafficPolicy())
    cluster.lb_policy = cluster.LbPolicy.Value("CLUSTER_PROVIDED")
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(auto_named(UpstreamHttp.AS_CALLER, UNSET_POOL))
    guard(cluster, settings)
    return cluster


def http_filters(settings: MeshSettings, client: ClientKind) -> list[Any]:
    """Resolves the request's host; then refuses what it must not be, where the data plane does not see to that."""
    forward = extension(
        "envoy.filters.http.dynamic_forward_proxy",
        _FORWARD,
        dns_cache_config=_CACHE,
        save_upstream_address=True,
    )
    if client.checks_addresses:
        return [forward]
    rules = _refusal(settings)
    rbac = extension(names.EGRESS_GUARD, "envoy.extensions.filters.http.rbac.v3.RBAC", rules=rules)
    return [forward, rbac]


def sni_filters(port: int, settings: MeshSettings, client: ClientKind) -> list[Any]:
    """The same for a TLS connection, by its server name."""
    forward = extension(
        "envoy.filters.network.sni_dynamic_forward_proxy",
        _SNI_FORWARD,
        dns_cache_config=_CACHE,
        port_value=port,
        save_upstream_address=True,
    )
    if client.checks_addresses:
        return [forward]
    kind = "envoy.extensions.filters.network.rbac.v3.RBAC"
    return [forward, extension(names.EGRESS_GUARD, kind, stat_prefix="egress.", rules=_refusal(settings))]


def _refusal(settings: MeshSettings) -> dict[str, Any]:
    """RBAC rules that deny forbidden upstream addresses. Envoy has no `but not`, so grants are conditions of their
    own: an address is denied when it is in a forbidden network and in no allowed one.
    """
    denied: dict[str, Any] = {"or_rules": {"rules": [_upstream(each) for each in (*FORBIDDEN, *MAPPED)]}}
    if settings.allowed_addresses:
        granted = {"or_rules": {"rules": [_upstream(each) for each in settings.allowed_addresses]}}
        denied = {"and_rules": {"rules": [denied, {"not_rule": granted}]}}
    policy = {"permissions": [denied], "principals": [{"any": True}]}
    return {"action": "DENY", "policies": {names.FORBIDDEN_ADDRESS: policy}}


def _upstream(network: str) -> dict[str, Any]:
    address, _, bits = network.partition("/")
    block = {"address_prefix": address, "prefix_len": {"value": int(bits)}}
    return {
        "matcher": {
            "name": "envoy.rbac.matchers.upstream_ip_port",
            "typed_config": typed(_UPSTREAM_IP, upstream_ip=block),
        }
    }
