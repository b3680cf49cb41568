"""The inbound listener of one application port: mTLS from sidecars, plaintext refused."""

from __future__ import annotations

from typing import Any

from tulle.model.mesh import Inbound, PlacedWorkload
from tulle.model.services import Protocol
from tulle.model.settings import MeshSettings
from tulle.protos import message
from tulle.xds import names, tls
from tulle.xds.filters.table import INBOUND
from tulle.xds.listeners.http_manager import http_manager, tcp_proxy
from tulle.xds.wire import extension, socket_address

LISTENER = "envoy.config.listener.v3.Listener"
TLS_INSPECTOR = extension(
    "envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
)
_HTTP_ALPN = ("h2", "http/1.1")


def inbound_listener(workload: PlacedWorkload, inbound: Inbound, settings: MeshSettings) -> Any:
    """The Listener. No filter chain matches plaintext, so it is closed (STRICT)."""
    return message(LISTENER)(
        name=names.inbound_listener(inbound.app),
        address=socket_address(workload.address, inbound.listen),
        listener_filters=[TLS_INSPECTOR],
        filter_chains=_chains(inbound, settings),
        traffic_direction="INBOUND",
    )


def _chains(inbound: Inbound, settings: MeshSettings) -> list[dict[str, Any]]:
    """HTTP, TCP, or for an unknown protocol both: sidecars offer ALPN for HTTP and nothing for TCP."""
    name = names.inbound_listener(inbound.app)
    tcp = {
        "name": f"{name}|tcp",
        "filter_chain_match": {"transport_protocol": "tls"},
        "transport_socket": tls.mesh_server(settings.trust_domain, ()),
        "filters": [tcp_proxy(name, settings, [(names.inbound_cluster(inbound.app), 1)])],
    }
    http = {
        "name": f"{name}|http",
        "filter_chain_match": {"transport_protocol": "tls"},
        "transport_socket": tls.mesh_server(settings.trust_domain, _HTTP_ALPN),
        "filters": [_manager(inbound, settings)],
    }
    if inbound.protocol.is_http:
        return [http]
    if inbound.protocol is not Protocol.UNKNOWN:
        return [tcp]
    http["filter_chain_match"] = {"transport_protocol": "tls", "application_protocols": list(_HTTP_ALPN)}
    return [http, tcp]


def _manager(inbound: Inbound, settings: MeshSettings) -> dict[str, Any]:
    name = names.inbound_listener(inbound.app)
    route = {
        "name": "default",
        "match": {"prefix": "/"},
        "route": {"cluster": names.inbound_cluster(inbound.app), "timeout": {"seconds": 0}},
    }
    host = {"name": names.inbound_virtual_host(inbound.app), "domains": ["*"], "routes": [route]}
    routes = {
        "route_config": {"name": name, "virtual_hosts": [host], "validate_clusters": {"value": False}},
        # who called is said by its certificate only, whatever headers it sends
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": {"value": True}, "uri": True},
    }
    return http_manager(name, settings, INBOUND, routes)
