"""Listeners for the application's own calls: one that routes by authority, one for each declared upstream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tulle.model.mesh import BoundConnectionRule, LinkedPort, LinkedUpstream
from tulle.model.services import Protocol
from tulle.model.settings import MeshSettings
from tulle.protos import message
from tulle.xds import names
from tulle.xds.client import ClientKind
from tulle.xds.cluster_policies import UNSET_POOL
from tulle.xds.effective import at_port
from tulle.xds.egress import is_dynamic, sni_filters
from tulle.xds.filters import table
from tulle.xds.listeners.http_manager import discovered, http_manager, tcp_proxy
from tulle.xds.listeners.inbound import (
    DETECTION_TIMEOUT,
    HTTP_INSPECTOR,
    LISTENER,
    PLAINTEXT_HTTP,
    TLS_INSPECTOR,
)
from tulle.xds.revocations import drain_before
from tulle.xds.routes import Naming
from tulle.xds.scope import Outbound, OutboundService, Scope
from tulle.xds.wire import address_within

LOOPBACK = "127.0.0.1"
"""Only the workload itself may use its identity, so its outbound side never listens beyond loopback, and where the
workload has a network namespace, on that one's.
"""


def outbound_listener(scope: Scope, since: float = 0.0) -> Any:
    """The Listener that routes every request by its authority, origin-form and absolute-form alike. Connections that
    were accepted under another `since` are given up, as inbound: there is no other way to what they have open with a
    server that was revoked.
    """
    workload, outbound = scope.workload, scope.outbound
    settings = outbound.settings
    routing = table.outbound(settings, scope.client) if outbound.anywhere else table.OUTBOUND
    filters = [*table.routing_tokens(scope.routing_issuers), *routing]
    manager = http_manager(names.OUTBOUND_LISTENER, settings, filters, discovered(names.OUTBOUND_ROUTES))
    chain: dict[str, Any] = {"name": names.OUTBOUND_LISTENER, "filters": [manager]}
    drain_before([chain], since)
    return message(LISTENER)(
        name=names.OUTBOUND_LISTENER,
        address=address_within(workload.network_namespace, LOOPBACK, workload.outbound),
        filter_chains=[chain],
        traffic_direction="OUTBOUND",
    )


def upstream_listener(
    upstream: LinkedUpstream, called: tuple[OutboundService, LinkedPort], scope: Scope, since: float = 0.0
) -> Any:
    """The Listener of one local port that leads to one service port: HTTP, TCP or detected. `since` is as outbound."""
    service, port = called
    outbound, client = scope.outbound, scope.client
    settings = outbound.settings
    name = names.upstream_listener(upstream.local_port)
    routes = discovered(names.upstream_routes(upstream.host, upstream.port))
    dynamic = is_dynamic(service.service)
    routing = table.outbound(settings, client) if dynamic else table.OUTBOUND
    filters = [*table.routing_tokens(scope.routing_issuers), *routing]
    http: dict[str, Any] = {
        "name": f"{name}|http",
        "filters": [http_manager(name, settings, filters, routes)],
    }
    tcp: dict[str, Any] = {"name": f"{name}|tcp", "filters": [_tcp(name, service, port, outbound)]}
    place = address_within(scope.workload.network_namespace, LOOPBACK, upstream.local_port)
    listener = message(LISTENER)(name=name, address=place, traffic_direction="OUTBOUND")
    by_name = [] if port.protocol.is_http or dynamic else list(_by_sni(name, service, port, outbound))
    drain_before([http, tcp, *by_name], since)
    chain = message(f"{LISTENER.rpartition('.')[0]}.FilterChain")
    if port.protocol.is_http:
        listener.filter_chains.append(chain(**http))
    elif dynamic:
        listener.listener_filters.add(**TLS_INSPECTOR)
        tls = _named_by_client(tcp, service, port, (settings, client))
        listener.filter_chains.append(chain(**tls))
    elif port.protocol is not Protocol.UNKNOWN:
        listener.filter_chains.extend(chain(**each) for each in by_name)
        if listener.filter_chains:
            listener.listener_filters.add(**TLS_INSPECTOR)
        listener.filter_chains.append(chain(**tcp))
    else:
        http["filter_chain_match"] = {"application_protocols": list(PLAINTEXT_HTTP)}
        listener.listener_filters.add(**HTTP_INSPECTOR)
        listener.listener_filters_timeout.MergeFrom(message("google.protobuf.Duration")(**DETECTION_TIMEOUT))
        listener.continue_on_listener_filters_timeout = True
        listener.filter_chains.append(chain(**http))
        listener.default_filter_chain.MergeFrom(chain(**tcp))
    return listener


def _named_by_client(
    tcp: dict[str, Any], service: OutboundService, port: LinkedPort, common: tuple[MeshSettings, ClientKind]
) -> dict[str, Any]:
    """The application's own TLS to whichever host of the wildcard its server name says; anything else is closed."""
    filters = sni_filters(port.number, *common)
    return {
        **tcp,
        "filter_chain_match": {"server_names": [service.service.host]},
        "filters": [*filters, *tcp["filters"]],
    }


def _tcp(name: str, service: OutboundService, port: LinkedPort, outbound: Outbound) -> dict[str, Any]:
    """To the destinations of the first TCP rule for the port, else to the service port itself."""
    rules = (bound for bound in service.tcp if _is_for(bound, port))
    clusters = next((found for bound in rules if (found := _clusters(bound, port, outbound))), None)
    itself = (names.outbound_cluster(service.service.host, port.number), 1)
    return _proxy(name, clusters or [itself], service, port, outbound)


def _by_sni(
    name: str, service: OutboundService, port: LinkedPort, outbound: Outbound
) -> Iterator[dict[str, Any]]:
    """A filter chain for each TLS rule: the application's own TLS passes through, chosen by its server name."""
    taken: set[str] = set()
    for index, bound in enumerate(service.tls):
        clusters = _clusters(bound, port, outbound)
        hosts = [host for match in bound.rule.matches for host in match.sni_hosts if host not in taken]
        if clusters and hosts and _is_for(bound, port):
            taken.update(hosts)
            yield {
                "name": f"{name}|tls|{index}",
                "filter_chain_match": {"server_names": hosts},
                "filters": [_proxy(name, clusters, service, port, outbound)],
            }


def _is_for(bound: BoundConnectionRule, port: LinkedPort) -> bool:
    if bound.ports and port.number not in bound.ports:
        return False
    matches = bound.rule.matches
    return not matches or any(match.port in (None, port.number) for match in matches)


def _clusters(bound: BoundConnectionRule, port: LinkedPort, outbound: Outbound) -> list[tuple[str, int]]:
    """The rule's clusters that get anything, with their weights."""
    naming = Naming(outbound.services, port.number)
    return [(naming(each).cluster, each.weight) for each in bound.rule.destinations if each.weight > 0]


def _proxy(
    name: str,
    clusters: Sequence[tuple[str, int]],
    service: OutboundService,
    port: LinkedPort,
    outbound: Outbound,
) -> dict[str, Any]:
    pool = at_port(service.policy, None, port.number).connection_pool or UNSET_POOL
    return tcp_proxy(name, outbound.settings, clusters, pool)
