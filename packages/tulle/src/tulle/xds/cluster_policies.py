"""A destination's policy in a cluster's fields: balancing, limits, ejection, connection options."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from tulle.model.policies import (
    Balancing,
    ConnectionPool,
    ConsistentHash,
    HashAlgorithm,
    LoadBalancer,
    OutlierDetection,
    TrafficPolicy,
)
from tulle.protos import pack_any, unpack_any
from tulle.xds.wire import duration, typed, wrapped

UNLIMITED = 4294967295
CONNECT_TIMEOUT = timedelta(seconds=10)
"""Istio's default connect timeout."""

ISTIO_RING_SIZE = 1024
MAGLEV_TABLE_SIZE = 65537

UNSET_POOL = ConnectionPool()
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
"""The extension's type, which is also the key it stands under."""

_METHODS = {
    Balancing.ROUND_ROBIN: "ROUND_ROBIN",
    Balancing.LEAST_REQUEST: "LEAST_REQUEST",
    Balancing.RANDOM: "RANDOM",
    Balancing.PASSTHROUGH: "CLUSTER_PROVIDED",
}


def apply_policy(cluster: Any, policy: TrafficPolicy) -> None:
    """Sets what `policy` says about balancing, limits and ejection on a Cluster under construction."""
    pool = policy.connection_pool or UNSET_POOL
    cluster.connect_timeout.FromTimedelta(pool.connect_timeout or CONNECT_TIMEOUT)
    _balance(cluster, policy.load_balancer or LoadBalancer())
    _limit(cluster, pool)
    panic = 0
    if policy.outlier is not None:
        _eject(cluster.outlier_detection, policy.outlier)
        panic = policy.outlier.min_health_percent or 0
    cluster.common_lb_config.healthy_panic_threshold.value = panic
    if pool.keepalive is not None:
        keepalive = cluster.upstream_connection_options.tcp_keepalive
        keepalive.SetInParent()
        if pool.keepalive.probes is not None:
            keepalive.keepalive_probes.value = pool.keepalive.probes
        if pool.keepalive.time is not None:
            keepalive.keepalive_time.value = int(pool.keepalive.time.total_seconds())
        if pool.keepalive.interval is not None:
            keepalive.keepalive_interval.value = int(pool.keepalive.interval.total_seconds())


def _balance(cluster: Any, balancer: LoadBalancer) -> None:
    method = balancer.method
    if isinstance(method, ConsistentHash):
        if method.algorithm is HashAlgorithm.MAGLEV:
            cluster.lb_policy = cluster.LbPolicy.Value("MAGLEV")
            cluster.maglev_lb_config.table_size.value = method.ring_size or MAGLEV_TABLE_SIZE
        else:
            cluster.lb_policy = cluster.LbPolicy.Value("RING_HASH")
            ring = ISTIO_RING_SIZE if method.ring_size is None else method.ring_size
            cluster.ring_hash_lb_config.minimum_ring_size.value = ring
        return
    cluster.lb_policy = cluster.LbPolicy.Value(_METHODS[method])
    if balancer.slow_start is None:
        return
    if method is Balancing.ROUND_ROBIN:
        cluster.round_robin_lb_config.slow_start_config.slow_start_window.FromTimedelta(balancer.slow_start)
    elif method is Balancing.LEAST_REQUEST:
        cluster.least_request_lb_config.slow_start_config.slow_start_window.FromTimedelta(balancer.slow_start)


def _limit(cluster: Any, pool: ConnectionPool) -> None:
    def limit(value: int | None) -> dict[str, Any]:
        return wrapped(UNLIMITED if value is None else value)

    cluster.circuit_breakers.thresholds.add(
        max_connections=limit(pool.max_connections),
        max_pending_requests=limit(pool.max_pending_requests),
        max_requests=limit(pool.max_requests),
        max_retries=limit(pool.max_retries),
    )


def _eject(into: Any, policy: OutlierDetection) -> None:
    """Ejection as Istio sets it up: success-rate ejection off, gateway errors only when asked for."""
    into.enforcing_success_rate.value = 0
    for value, threshold, enforcing in (
        (policy.consecutive_5xx, into.consecutive_5xx, into.enforcing_consecutive_5xx),
        (
            policy.consecutive_gateway_errors,
            into.consecutive_gateway_failure,
            into.enforcing_consecutive_gateway_failure,
        ),
        (
            policy.consecutive_local_failures,
            into.consecutive_local_origin_failure,
            into.enforcing_consecutive_local_origin_failure,
        ),
    ):
        if value is not None:
            if value:
                threshold.value = value
            enforcing.value = 100 if value else 0
    into.split_external_local_origin_errors = policy.split_local_errors
    if policy.interval is not None:
        into.interval.FromTimedelta(policy.interval)
    if policy.base_ejection_time is not None:
        into.base_ejection_time.FromTimedelta(policy.base_ejection_time)
    if policy.max_ejection_percent is not None:
        into.max_ejection_percent.value = policy.max_ejection_percent


class UpstreamHttp(StrEnum):
    """Which HTTP a cluster's connections speak."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    AS_CALLER = "as-caller"


def http_options(speak: UpstreamHttp, pool: ConnectionPool = UNSET_POOL) -> Any:
    """The `HttpProtocolOptions` extension: the protocol and the per-connection settings of `pool`."""
    http2: dict[str, Any] = {}
    if pool.max_concurrent_streams is not None:
        http2["max_concurrent_streams"] = wrapped(pool.max_concurrent_streams)
    common: dict[str, Any] = {}
    if pool.max_requests_per_connection:
        common["max_requests_per_connection"] = wrapped(pool.max_requests_per_connection)
    if pool.idle_timeout is not None:
        common["idle_timeout"] = duration(pool.idle_timeout)
    if pool.max_connection_duration is not None:
        common["max_connection_duration"] = duration(pool.max_connection_duration)
    versions: dict[str, Any]
    if speak is UpstreamHttp.AS_CALLER:
        versions = {
            "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": http2}
        }
    elif speak is UpstreamHttp.HTTP2:
        versions = {"explicit_http_config": {"http2_protocol_options": http2}}
    else:
        versions = {"explicit_http_config": {"http_protocol_options": {}}}
    return typed(
        HTTP_OPTIONS,
        common_http_protocol_options=common or None,
        **versions,
    )


def auto_named(speak: UpstreamHttp, pool: ConnectionPool) -> Any:
    """The same where the host is known by request only: TLS names it to the server and checks the server for it."""
    made = unpack_any(http_options(speak, pool))
    made.upstream_http_protocol_options.auto_sni = True
    made.upstream_http_protocol_options.auto_san_validation = True
    return pack_any(made)
