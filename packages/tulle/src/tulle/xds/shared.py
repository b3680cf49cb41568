"""Resources that callers of one namespace and shape have in common: clusters, endpoints, the route table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tulle.model.mesh import BoundConnectionRule, BoundRule, Endpoint, ServiceEndpoints
from tulle.model.routes import Forward
from tulle.model.services import Resolution
from tulle.model.settings import MeshSettings, OutboundPolicy
from tulle.xds import names, routes
from tulle.xds.clusters import Target, missing_cluster, outbound_cluster, targets
from tulle.xds.egress import passthrough_cluster
from tulle.xds.endpoints import load_assignment, subset_endpoints
from tulle.xds.memo import Memo
from tulle.xds.scope import Outbound, OutboundService
from tulle.xds.snapshot import CLUSTER, Layer, Resource, resource

_EDS = (Resolution.WORKLOADS, Resolution.STATIC)


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Resources by name."""

    clusters: Layer
    endpoints: Layer
    routes: Layer


def shared(outbound: Outbound, endpoints: Mapping[str, ServiceEndpoints], memo: Memo) -> Shared:
    """What is shared, one object for all callers."""
    return memo.get("shared", (outbound, endpoints), partial(_build, outbound, endpoints, memo))


def _build(outbound: Outbound, endpoints: Mapping[str, ServiceEndpoints], memo: Memo) -> Shared:
    clusters: list[Resource] = []
    assignments: list[Resource] = []
    for host, service in outbound.services.items():
        answering = endpoints.get(host) or ServiceEndpoints(host)
        for target in targets(service):
            clusters.append(_cluster(service, target, answering, (outbound.settings, memo)))
            if service.service.resolution in _EDS:
                chosen = subset_endpoints(answering.of(target.port.number), target.subset)
                tag = ("endpoints", target.name, chosen)
                assignments.append(memo.get(tag, (), partial(_endpoints, target.name, chosen)))
    if outbound.settings.outbound is OutboundPolicy.ALLOW_ANY:
        clusters.append(_anywhere(outbound.settings, memo))
    table = memo.get("outbound table", (outbound,), partial(_outbound_table, outbound, memo))
    tables = layer([table], memo)
    known = layer(clusters, memo)
    missing = memo.get("missing", (tables, known), lambda: missing_clusters((tables,), (known,)))
    if missing:
        known = layer([*clusters, *missing.values()], memo)
    return Shared(known, layer(assignments, memo), tables)


def missing_clusters(holders: Sequence[Layer], known: Sequence[Layer]) -> Layer:
    """Clusters without endpoints for destinations that nobody declares."""
    wanted = {name for holder in holders if CLUSTER in holder.needs for name in holder.unmet(CLUSTER, known)}
    return Layer(resource(missing_cluster(name)) for name in sorted(wanted))


def layer(resources: Sequence[Resource], memo: Memo) -> Layer:
    """The resources by name; the same ones make the same object."""
    return memo.get("layer", tuple(resources), lambda: Layer(resources))


def _cluster(
    service: OutboundService, target: Target, answering: ServiceEndpoints, common: tuple[MeshSettings, Memo]
) -> Resource:
    """A cluster depends on its endpoints only by who answers and how; with DNS also by their names."""
    settings, memo = common
    said = (settings.tls, settings.mesh_curves, settings.auto_mtls, settings.allowed_addresses)
    tag = ("cluster", target.name, answering.accounts, answering.has_plaintext, said)
    inputs = (service,) if service.service.resolution in _EDS else (service, answering)
    return memo.get(tag, inputs, lambda: _kept(resource(outbound_cluster(target, answering, settings)), memo))


def _anywhere(settings: MeshSettings, memo: Memo) -> Resource:
    tag = ("passthrough", settings.allowed_addresses)
    return memo.get(tag, (), lambda: resource(passthrough_cluster(settings)))


def _kept(made: Resource, memo: Memo) -> Resource:
    """The object that other inputs made with the same content, if there is one."""
    return memo.get(("content", made.type_url, made.name, made.version), (), lambda: made)


def _endpoints(name: str, chosen: tuple[Endpoint, ...]) -> Resource:
    return resource(load_assignment(name, chosen))


def _outbound_table(outbound: Outbound, memo: Memo) -> Resource:
    hosts = []
    taken = _full_names(outbound)
    for service in outbound.services.values():
        for port in routes.routable(service.service):
            own = routes.authorities(service.service, port, outbound.namespace, outbound.settings.domain)
            # a full name is its owner's; a short form that spells another's full name stays with that one
            domains = tuple(
                each for each in own if each not in taken or each.startswith(service.service.host)
            )
            taken.update(domains)
            hosts.append(virtual_host(outbound, service, port.number, domains, memo))
    hosts += [
        routes.routed_host(routed, outbound) for host, routed in outbound.hosts.items() if host not in taken
    ]
    if "*" not in outbound.hosts:
        anything = outbound.settings.outbound is OutboundPolicy.ALLOW_ANY
        hosts.append(routes.allow_any() if anything else routes.block_all())
    return _kept(resource(routes.route_table(names.OUTBOUND_ROUTES, hosts)), memo)


def _full_names(outbound: Outbound) -> set[str]:
    found = set(outbound.services)
    for host, service in outbound.services.items():
        found.update(f"{host}:{port.number}" for port in service.service.ports)
    return found


def virtual_host(
    outbound: Outbound, service: OutboundService, number: int, domains: tuple[str, ...], memo: Memo
) -> Any:
    """The virtual host of one service port, answering to `domains`."""

    def build() -> Any:
        port = service.service.port(number)
        assert port is not None
        found = routes.http_routes(service.http, (service.service, port), outbound)
        return routes.virtual_host(names.virtual_host(service.service.host, number), list(domains), found)

    inputs = (service, *destinations(service.http, outbound))
    return memo.get(("virtual host", number, domains), inputs, build)


def destinations(
    rules: Iterable[BoundRule | BoundConnectionRule], outbound: Outbound
) -> tuple[OutboundService | None, ...]:
    """The services that rules send to: what else a route depends on (hash policy, ports)."""
    hosts: dict[str, None] = {}
    for bound in rules:
        if isinstance(bound, BoundConnectionRule):
            hosts.update(dict.fromkeys(each.host for each in bound.rule.destinations))
            continue
        if isinstance(bound.rule.action, Forward):
            hosts.update(dict.fromkeys(each.host for each in bound.rule.action.destinations))
        hosts.update(dict.fromkeys(mirror.destination.host for mirror in bound.rule.mirrors))
    return tuple(outbound.services.get(host) for host in hosts)
