"""Resources that only one proxy has: its listeners, its upstreams' routes, its application's clusters."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from tulle.model.mesh import Inbound, LinkedPort, LinkedService, LinkedUpstream, PlacedWorkload
from tulle.model.services import Protocol
from tulle.model.settings import MeshSettings
from tulle.protos import message
from tulle.xds import names, routes
from tulle.xds.client import ClientKind
from tulle.xds.clusters import Application, inbound_cluster
from tulle.xds.egress import is_dynamic
from tulle.xds.listeners.inbound import inbound_listener, inbound_table, revoked_now
from tulle.xds.listeners.outbound import outbound_listener, upstream_listener
from tulle.xds.memo import Memo
from tulle.xds.revocations import NOBODY, Revocations
from tulle.xds.scope import OutboundService, Scope
from tulle.xds.shared import destinations, virtual_host
from tulle.xds.snapshot import Resource, resource


def own_listeners(scope: Scope, memo: Memo) -> list[Resource]:
    """The outbound listener, one for each application port, one for each upstream."""
    settings, workload = scope.outbound.settings, scope.workload
    asked = (scope.client, scope.routing_issuers, workload.network_namespace)
    revoked = NOBODY if scope.client.cuts_the_revoked else scope.revoked
    left = revoked.among(scope.outbound.services)
    made = [
        memo.get(
            ("outbound listener", workload.outbound, settings, scope.outbound.anywhere, left, *asked),
            (),
            lambda: resource(outbound_listener(scope, left)),
        )
    ]
    accepted = (revoked.anybody, revoked_now(revoked, settings))
    for inbound in workload.inbound:
        tag = ("inbound listener", inbound, workload.address, settings, scope.client, accepted)
        build_inbound = partial(_inbound_listener, (workload, inbound), settings, scope.client, revoked)
        made.append(memo.get(tag, (), build_inbound))
    for upstream, service, port in _known_upstreams(scope):
        inputs = (service, *destinations((*service.tcp, *service.tls), scope.outbound))
        called = (service, *destinations((*service.http, *service.tcp, *service.tls), scope.outbound))
        left = revoked.among(each.service.host for each in called if each is not None)
        build = partial(_upstream_listener, upstream, (service, port), scope, left)
        made.append(memo.get(("upstream listener", upstream, settings, left, *asked), inputs, build))
    return made


def _inbound_listener(
    port: tuple[PlacedWorkload, Inbound], settings: MeshSettings, client: ClientKind, revoked: Revocations
) -> Resource:
    return resource(inbound_listener(*port, settings, client, revoked))


def inbound_tables(scope: Scope, memo: Memo) -> list[Resource]:
    """The route tables of application ports, for data planes that read access rules from there."""
    if not scope.client.holds_rules_of_routes:
        return []
    return [
        memo.get(("inbound table", each, scope.client), (), partial(_inbound_table, each, scope.client))
        for each in scope.workload.inbound
        if each.protocol.is_http or each.protocol is Protocol.UNKNOWN
    ]


def _inbound_table(inbound: Inbound, client: ClientKind) -> Resource:
    return resource(message("envoy.config.route.v3.RouteConfiguration")(**inbound_table(inbound, client)))


def _upstream_listener(
    upstream: LinkedUpstream, called: tuple[OutboundService, LinkedPort], scope: Scope, since: float
) -> Resource:
    return resource(upstream_listener(upstream, called, scope, since))


def upstream_tables(scope: Scope, memo: Memo) -> list[Resource]:
    """The route tables of upstream listeners that speak HTTP: every authority is the service; of a wildcard that is
    called as named, those that it covers.
    """
    made: dict[str, Resource] = {}
    for upstream, service, port in _known_upstreams(scope):
        if port.protocol.is_http or port.protocol is Protocol.UNKNOWN:
            name = names.upstream_routes(upstream.host, upstream.port)
            domains = (upstream.host, f"{upstream.host}:{port.number}") if is_dynamic(service.service) else ("*",)
            host = virtual_host(scope.outbound, service, port.number, domains, memo)
            made[name] = memo.get(("upstream table", name), (host,), partial(_table, name, host))
    return list(made.values())


def _table(name: str, host: Any) -> Resource:
    return resource(routes.route_table(name, [host]))


def own_clusters(scope: Scope, memo: Memo) -> list[Resource]:
    """The clusters of the application's own ports."""
    at = Application(scope.workload.address, scope.workload.network_namespace)
    made = []
    for inbound in scope.workload.inbound:
        serving = tuple(each for each in scope.own_services if each.host in inbound.services)
        tag = ("inbound cluster", inbound, at, serving)
        made.append(memo.get(tag, (), partial(_inbound_cluster, inbound, at, serving)))
    return made


def _inbound_cluster(inbound: Inbound, at: Application, serving: tuple[LinkedService, ...]) -> Resource:
    return resource(inbound_cluster(inbound, at, serving))


def _known_upstreams(scope: Scope) -> Iterator[tuple[LinkedUpstream, OutboundService, LinkedPort]]:
    """Upstreams whose service and port exist; link has reported the others."""
    for upstream in scope.workload.upstreams:
        service = scope.outbound.services.get(upstream.host)
        port = None if service is None else service.service.port(upstream.port)
        if service is not None and port is not None:
            yield upstream, service, port
