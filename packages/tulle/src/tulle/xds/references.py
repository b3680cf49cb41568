"""Which other resources a resource refers to, read from the message itself and not from what made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tulle.protos import unpack_any

_CLUSTER = "envoy.config.cluster.v3.Cluster"
_ENDPOINTS = "envoy.config.endpoint.v3.ClusterLoadAssignment"
_ROUTES = "envoy.config.route.v3.RouteConfiguration"

STATIC_CLUSTERS = frozenset({"sds-grpc", "xds-grpc", "zipkin"})
"""Clusters that stand in the bootstrap."""


def references(msg: Any) -> Iterator[tuple[str, str]]:
    """(message type, name) of every cluster, endpoint set and route table that `msg` needs."""
    kind = msg.DESCRIPTOR.full_name
    if kind == "envoy.config.listener.v3.Listener":
        yield from _of_listener(msg)
    elif kind == _ROUTES:
        yield from _of_routes(msg)
    elif kind == _CLUSTER and msg.HasField("eds_cluster_config"):
        yield _ENDPOINTS, msg.eds_cluster_config.service_name or msg.name


def _of_listener(listener: Any) -> Iterator[tuple[str, str]]:
    if listener.HasField("api_listener"):
        yield from _of_filter(listener.api_listener.api_listener)
    chains = [*listener.filter_chains]
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    for chain in chains:
        for each in chain.filters:
            yield from _of_filter(each.typed_config)


def _of_filter(packed: Any) -> Iterator[tuple[str, str]]:
    config = unpack_any(packed)
    kind = config.DESCRIPTOR.name
    if kind == "TcpProxy":
        if config.cluster:
            yield _CLUSTER, config.cluster
        for weighted in config.weighted_clusters.clusters:
            yield _CLUSTER, weighted.name
    elif kind == "HttpConnectionManager":
        if config.HasField("rds"):
            yield _ROUTES, config.rds.route_config_name
        yield from _of_routes(config.route_config)


def _of_routes(routes: Any) -> Iterator[tuple[str, str]]:
    for host in routes.virtual_hosts:
        for route in host.routes:
            if not route.HasField("route"):
                continue
            if route.route.cluster:
                yield _CLUSTER, route.route.cluster
            for weighted in route.route.weighted_clusters.clusters:
                yield _CLUSTER, weighted.name
            for mirror in route.route.request_mirror_policies:
                yield _CLUSTER, mirror.cluster
