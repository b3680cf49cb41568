"""The gateway's listeners as static xDS: the sidecar's connection manager with Envoy's best practices for an edge."""

from __future__ import annotations

from typing import Any

from harness.identities import Identities
from tulle.model.settings import AccessLog, MeshSettings
from tulle.protos import message, to_dict
from tulle.xds.listeners.http_manager import http_manager

HOST = "shop.example"
WILD = "*.wild.example"
OTHER = "other.example"

PLAIN, SECURE = "gateway", "gateway-tls"

RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
INSPECTOR = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"

EDGE: dict[str, Any] = {
    "use_remote_address": True,
    "common_http_protocol_options": {
        "idle_timeout": "3600s",
        "headers_with_underscores_action": "REJECT_REQUEST",
    },
    "http2_protocol_options": {
        "max_concurrent_streams": 100,
        "initial_stream_window_size": 65536,
        "initial_connection_window_size": 1 << 20,
    },
    "stream_idle_timeout": "300s",
    "request_timeout": "300s",
    "request_headers_timeout": "10s",
    "merge_slashes": True,
    "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
    "strip_any_host_port": True,
    "strip_trailing_host_dot": True,
}
"""https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge."""


def _any_of(*rules: dict[str, Any]) -> list[dict[str, Any]]:
    return list(rules)


def _path(**matcher: str) -> dict[str, Any]:
    return {"url_path": {"path": matcher}}


def _header(name: str, matcher: dict[str, Any]) -> dict[str, Any]:
    return {"header": {"name": name, "string_match": matcher}}


def texts() -> dict[str, Any]:
    """A filter on texts, with a regular expression that is negated: no dialect says that for every position."""
    return {"name": "texts", "typed_config": _denying(_texts())}


def _texts() -> list[dict[str, Any]]:
    return _any_of(
        {
            "and_rules": {
                "rules": [
                    {"header": {"name": "x-team", "present_match": True}},
                    {"not_rule": _header("x-team", {"safe_regex": {"regex": "[^!]*"}})},
                ]
            }
        },
        _header("x-path", {"safe_regex": {"regex": ".*secret.*"}}),
        _header("x-role", {"exact": "blocked"}),
    )


def _denials() -> dict[str, Any]:
    """The same policies as mesh.yaml's."""
    permissions = _any_of(
        _path(exact="/admin"),
        _path(prefix="/admin/"),
        {"url_path": {"path": {"safe_regex": {"regex": r"/v1\.0/[^/]+"}}}},
        _header(":authority", {"exact": "secret.example", "ignore_case": True}),
        _header(":method", {"exact": "DELETE"}),
    )
    return _denying(permissions)


def _denying(permissions: list[dict[str, Any]]) -> dict[str, Any]:
    policy = {"permissions": permissions, "principals": [{"any": True}]}
    return {"@type": RBAC, "rules": {"action": "DENY", "policies": {"keep-out": policy}}}


def manager(domains: list[str], **over: Any) -> dict[str, Any]:
    """The connection manager for these domains; `over` replaces fields."""
    settings = MeshSettings(access_log=AccessLog(path=None))
    made = http_manager("gateway", settings, (), {"route_config": {"name": "gateway"}})
    holder = message("envoy.config.listener.v3.FilterChain")(filters=[made])
    config: dict[str, Any] = to_dict(holder)["filters"][0]["typed_config"]
    config |= EDGE
    config["http_filters"] = [
        {"name": "envoy.filters.http.rbac", "typed_config": _denials()},
        texts(),
        {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}},
    ]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "shop", "timeout": "0s"}}
    hosts = [{"name": "shop", "domains": domains, "routes": [route]}]
    config["route_config"] = {"name": "gateway", "virtual_hosts": hosts}
    config |= over
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def listener(name: str, port: int, chains: list[dict[str, Any]]) -> dict[str, Any]:
    """One listener, with the small buffers of an edge."""
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": chains,
    }


def secure_listener(port: int, identities: Identities) -> dict[str, Any]:
    """TLS for two owners of hosts: one name, and one level of names below another."""
    chains = []
    for name in (HOST, WILD, OTHER):
        own = identities.serving(name)
        certificate = {
            "certificate_chain": {"inline_string": own.certificate},
            "private_key": {"inline_string": own.key},
        }
        context = {
            "@type": TLS,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [certificate],
            },
        }
        chains.append(
            {
                "name": name,
                "filter_chain_match": {"server_names": [name]},
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
                "filters": [manager([name])],
            }
        )
    made = listener(SECURE, port, chains)
    made["listener_filters"] = [
        {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": INSPECTOR}}
    ]
    return made


def cluster(port: int) -> dict[str, Any]:
    """The application behind the gateway."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": "shop",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "shop", "endpoints": endpoints},
    }
