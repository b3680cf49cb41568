"""The HTTP connection manager and the TCP proxy, as every listener uses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulle.model.policies import ConnectionPool
from tulle.model.settings import MeshSettings, PathNormalization
from tulle.xds.cluster_policies import UNSET_POOL
from tulle.xds.telemetry import access_logs, tracing
from tulle.xds.wire import ADS, NO_TIMEOUT, duration, extension

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def http_manager(
    stat_prefix: str, settings: MeshSettings, filters: Sequence[Any], routes: dict[str, Any]
) -> dict[str, Any]:
    """The network filter. `routes` is its `rds` or `route_config` with what else differs between listeners.

    The application's own Server header stays (Istio's PASS_THROUGH); paths are normalized and a host's trailing dot
    is taken off, so that what was matched is what is forwarded; streams live as long as they want. WebSockets come over
    HTTP/2 too, as between sidecars (RFC 8441).
    """
    return extension(
        "envoy.filters.network.http_connection_manager",
        _MANAGER,
        stat_prefix=stat_prefix,
        http_filters=list(filters),
        access_log=access_logs(settings.access_log),
        tracing=tracing(settings),
        use_remote_address={"value": False},
        server_header_transformation="PASS_THROUGH",
        **_paths(settings.path_normalization),
        strip_trailing_host_dot=True,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        http2_protocol_options={"allow_connect": True},
        stream_idle_timeout=NO_TIMEOUT,
        **routes,
    )


def _paths(level: PathNormalization) -> dict[str, Any]:
    """What is done to paths before anything looks at them (Istio's table of levels)."""
    found: dict[str, Any] = {
        "normalize_path": {"value": level is not PathNormalization.NONE},
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
    }
    if level in (PathNormalization.MERGE_SLASHES, PathNormalization.DECODE_AND_MERGE_SLASHES):
        found["merge_slashes"] = True
    if level is PathNormalization.DECODE_AND_MERGE_SLASHES:
        found["path_with_escaped_slashes_action"] = "UNESCAPE_AND_FORWARD"
    return found


def discovered(route_config_name: str) -> dict[str, Any]:
    """Routes over ADS."""
    return {
        "rds": {
            "config_source": {**ADS, "initial_fetch_timeout": NO_TIMEOUT},
            "route_config_name": route_config_name,
        }
    }


def tcp_proxy(
    stat_prefix: str,
    settings: MeshSettings,
    clusters: Sequence[tuple[str, int]],
    pool: ConnectionPool = UNSET_POOL,
) -> dict[str, Any]:
    """The TCP proxy filter to one cluster, or to several by weight (none of them 0)."""
    fields: dict[str, Any]
    if len(clusters) == 1:
        fields = {"cluster": clusters[0][0]}
    else:
        weighted = [{"name": name, "weight": weight} for name, weight in clusters]
        fields = {"weighted_clusters": {"clusters": weighted}}
    if pool.tcp_idle_timeout is not None:
        fields["idle_timeout"] = duration(pool.tcp_idle_timeout)
    if pool.max_connection_duration is not None:
        fields["max_downstream_connection_duration"] = duration(pool.max_connection_duration)
    return extension(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=stat_prefix,
        access_log=access_logs(settings.access_log),
        **fields,
    )
