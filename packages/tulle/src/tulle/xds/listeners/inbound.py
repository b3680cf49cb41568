"""The inbound listener of one application port: mutual TLS from sidecars; plaintext only where a policy says."""

from __future__ import annotations

from typing import Any

from tulle.model.access import PeerMode
from tulle.model.mesh import Inbound, PlacedWorkload
from tulle.model.services import Protocol
from tulle.model.settings import MeshSettings
from tulle.model.workloads import WorkloadRef
from tulle.protos import message
from tulle.xds import names, tls
from tulle.xds.client import ClientKind
from tulle.xds.filters import ext_authz, rbac, table
from tulle.xds.listeners.http_manager import discovered, http_manager, tcp_proxy
from tulle.xds.revocations import NOBODY, Revocations, drain_before
from tulle.xds.routes import OVERRIDES
from tulle.xds.wire import extension, socket_address

LISTENER = "envoy.config.listener.v3.Listener"
TLS_INSPECTOR = extension(
    "envoy.filters.listener.tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
)
HTTP_INSPECTOR = extension(
    "envoy.filters.listener.http_inspector",
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
)
DETECTION_TIMEOUT = {"nanos": 100_000_000}
"""How long a caller may stay silent before its connection counts as TCP (server-first protocols)."""

PLAINTEXT_HTTP = ("http/1.0", "http/1.1", "h2c")
"""What the HTTP inspector finds."""

_HTTP_ALPN = ("h2", "http/1.1")


def inbound_listener(
    workload: PlacedWorkload,
    inbound: Inbound,
    settings: MeshSettings,
    client: ClientKind,
    revoked: Revocations = NOBODY,
) -> Any:
    """The Listener. Where no filter chain matches plaintext it is closed (STRICT). Connections in mutual TLS that were
    accepted before somebody was revoked are given up: a data plane drains those of a filter chain that has changed.
    """
    listener = message(LISTENER)(
        name=names.inbound_listener(inbound.app),
        address=socket_address(workload.address, inbound.listen),
        traffic_direction="INBOUND",
    )
    http = [_manager(inbound, settings, client)]
    tcp = [*_guarded(inbound), _proxy(inbound, settings)]
    mode = inbound.guard.mode
    chains = [] if mode is PeerMode.DISABLE else _secured(inbound, settings, http, tcp)
    refused = revoked_now(revoked, settings)
    if refused:
        refusal = rbac.refuse_peers(refused, settings.trust_domains, listener.name)
        for each in chains:
            each["filters"] = [refusal, *each["filters"]]
    drain_before(chains, revoked.anybody)
    if mode is not PeerMode.STRICT:
        chains += _plain(inbound, http, tcp)
    listener.filter_chains.extend(message("envoy.config.listener.v3.FilterChain")(**each) for each in chains)
    _inspect(listener, inbound)
    return listener


def revoked_now(revoked: Revocations, settings: MeshSettings) -> tuple[WorkloadRef, ...]:
    """Whom a listener has to refuse by itself: where several trust domains are known, peers are told apart by a
    validator that looks at no revocation lists (Envoy's for SPIFFE).
    """
    return revoked.refused if len(settings.peer_domains) > 1 else ()


def _inspect(listener: Any, inbound: Inbound) -> None:
    """The listener filters. A caller in plaintext may wait for the server to speak, so that silence is an
    answer too; a caller in TLS speaks first.
    """
    mode = inbound.guard.mode
    detects = inbound.protocol is Protocol.UNKNOWN and mode is not PeerMode.STRICT
    if mode is not PeerMode.DISABLE:
        listener.listener_filters.add(**TLS_INSPECTOR)
    if detects:
        listener.listener_filters.add(**HTTP_INSPECTOR)
    if detects or (mode is PeerMode.PERMISSIVE and not inbound.protocol.is_http):
        listener.listener_filters_timeout.MergeFrom(message("google.protobuf.Duration")(**DETECTION_TIMEOUT))
        listener.continue_on_listener_filters_timeout = True


def _secured(
    inbound: Inbound, settings: MeshSettings, http: list[Any], tcp: list[Any]
) -> list[dict[str, Any]]:
    """HTTP, TCP, or for an unknown protocol both: sidecars offer ALPN for HTTP and nothing for TCP."""
    name = names.inbound_listener(inbound.app)
    tcp_chain = {
        "name": f"{name}|tcp",
        "filter_chain_match": {"transport_protocol": "tls"},
        "transport_socket": tls.mesh_server(settings, ()),
        "filters": tcp,
    }
    http_chain = {
        "name": f"{name}|http",
        "filter_chain_match": {"transport_protocol": "tls"},
        "transport_socket": tls.mesh_server(settings, _HTTP_ALPN),
        "filters": http,
    }
    if inbound.protocol.is_http:
        return [http_chain]
    if inbound.protocol is not Protocol.UNKNOWN:
        return [tcp_chain]
    http_chain["filter_chain_match"] = {
        "transport_protocol": "tls",
        "application_protocols": list(_HTTP_ALPN),
    }
    return [http_chain, tcp_chain]


def _plain(inbound: Inbound, http: list[Any], tcp: list[Any]) -> list[dict[str, Any]]:
    """The same in plaintext. Where mutual TLS is not taken at all, TLS is the application's own: bytes."""
    name = names.inbound_listener(inbound.app)
    match = {} if inbound.guard.mode is PeerMode.DISABLE else {"transport_protocol": "raw_buffer"}
    http_chain = {"name": f"{name}|plain-http", "filter_chain_match": match, "filters": http}
    tcp_chain = {"name": f"{name}|plain-tcp", "filter_chain_match": match, "filters": tcp}
    if inbound.protocol.is_http:
        return [http_chain]
    if inbound.protocol is not Protocol.UNKNOWN:
        return [tcp_chain]
    http_chain["filter_chain_match"] = {**match, "application_protocols": list(PLAINTEXT_HTTP)}
    return [http_chain, tcp_chain]


def _guarded(inbound: Inbound) -> list[dict[str, Any]]:
    name = names.inbound_listener(inbound.app)
    # in the same order as for requests
    asked = ext_authz.network_filters(inbound.guard, inbound.app, name)
    return [*asked, *rbac.network_filters(inbound.guard, inbound.app, name)]


def _proxy(inbound: Inbound, settings: MeshSettings) -> dict[str, Any]:
    name = names.inbound_listener(inbound.app)
    return tcp_proxy(name, settings, [(names.inbound_cluster(inbound.app), 1)])


def inbound_table(inbound: Inbound, client: ClientKind) -> dict[str, Any]:
    """The RouteConfiguration of one application port: everything goes to the application."""
    route = {
        "name": "default",
        "match": {"prefix": "/"},
        "route": {"cluster": names.inbound_cluster(inbound.app), "timeout": {"seconds": 0}},
    }
    name = names.inbound_virtual_host(inbound.app)
    host: dict[str, Any] = {"name": name, "domains": ["*"], "routes": [route]}
    if client.holds_rules_of_routes:
        host["typed_per_filter_config"] = table.of_routes(inbound.guard, inbound.app)
    return {
        "name": names.inbound_listener(inbound.app),
        "virtual_hosts": [host],
        "validate_clusters": {"value": False},
        "request_headers_to_remove": list(OVERRIDES),
    }


def _manager(inbound: Inbound, settings: MeshSettings, client: ClientKind) -> dict[str, Any]:
    name = names.inbound_listener(inbound.app)
    routes = {
        **(discovered(name) if client.holds_rules_of_routes else {"route_config": inbound_table(inbound, client)}),
        # who called is said by its certificate only, whatever headers it sends
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"subject": {"value": True}, "uri": True},
    }
    return http_manager(name, settings, table.inbound(inbound.guard, inbound.app, client), routes)
