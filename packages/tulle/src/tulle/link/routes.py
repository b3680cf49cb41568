"""Pass 3: route sets attached to their hosts, destinations resolved, several sets for one host merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tulle.link.grants import Ownership, limited
from tulle.link.hosts import Hosts
from tulle.link.matches import ANY, is_catch_all, specificity
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.mesh import BoundConnectionRule, BoundRule, HostRoutes, LinkedService
from tulle.model.meta import Meta, Visibility
from tulle.model.routes import (
    MESH_GATEWAY,
    ConnectionRule,
    Destination,
    Forward,
    HttpRule,
    Precedence,
    RouteSet,
)

OWN = Visibility(public=False)
"""For callers in the object's own namespace alone."""


@dataclass(slots=True)
class _Merging:
    sets: list[Meta] = field(default_factory=list)
    http: list[tuple[int, BoundRule]] = field(default_factory=list)
    tls: list[BoundConnectionRule] = field(default_factory=list)
    tcp: list[BoundConnectionRule] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Resolver:
    hosts: Hosts
    services: Mapping[str, LinkedService]

    def destination(self, destination: Destination, namespace: str) -> Destination:
        """With the full host, and the port when the service has only one."""
        host = self.hosts.resolve(destination.host, namespace)
        port = destination.port
        service = self.services.get(host)
        if port is None and service is not None and len(service.ports) == 1:
            port = service.ports[0].number
        return replace(destination, host=host, port=port)

    def http(self, rule: HttpRule, namespace: str) -> HttpRule:
        action = rule.action
        if isinstance(action, Forward):
            action = Forward(tuple(self.destination(each, namespace) for each in action.destinations))
        mirrors = tuple(
            replace(mirror, destination=self.destination(mirror.destination, namespace))
            for mirror in rule.mirrors
        )
        return replace(rule, action=action, mirrors=mirrors)

    def connection(self, rule: ConnectionRule, namespace: str) -> ConnectionRule:
        return replace(
            rule, destinations=tuple(self.destination(each, namespace) for each in rule.destinations)
        )


def link_routes(
    sets: Iterable[RouteSet], hosts: Hosts, services: Mapping[str, LinkedService], ownership: Ownership
) -> tuple[dict[str, HostRoutes], list[Diagnostic]]:
    """Routes by host. `sets` oldest first.

    Rules of several sets for one host follow each other, oldest set first; what matches everything comes
    last, so that an older set's default does not hide a younger set's special cases (Istio's gateways do so).
    """
    resolver = _Resolver(hosts, services)
    merging: dict[str, _Merging] = {}
    findings: list[Diagnostic] = []
    for route_set in sets:
        for host in dict.fromkeys(hosts.resolve(each, route_set.meta.namespace) for each in route_set.hosts):
            into = merging.setdefault(host, _Merging())
            overlapping = _overlapping(into, route_set)
            if overlapping is not None:
                findings.append(_merged(host, overlapping, route_set.meta))
            owners = ownership.missing(route_set.meta, host)
            if owners and MESH_GATEWAY in route_set.gateways:
                findings.append(limited(route_set.meta, host, owners))
                _attach(into, replace(route_set, gateways=(MESH_GATEWAY,), visibility=OWN), resolver)
                others = tuple(each for each in route_set.gateways if each != MESH_GATEWAY)
                if others:
                    _attach(into, replace(route_set, gateways=others), resolver)
            else:
                _attach(into, route_set, resolver)
    return {host: _ordered(host, merging[host]) for host in sorted(merging)}, findings


def _attach(into: _Merging, route_set: RouteSet, resolver: _Resolver) -> None:
    meta = route_set.meta
    into.sets.append(meta)
    index = len(into.sets)
    for rule in _in_order(route_set):
        bound = BoundRule(
            resolver.http(rule, meta.namespace),
            str(meta),
            meta.namespace,
            route_set.gateways,
            route_set.visibility,
            route_set.ports,
        )
        into.http.append((index, bound))
    for rules, bindings in ((route_set.tls, into.tls), (route_set.tcp, into.tcp)):
        bindings.extend(
            BoundConnectionRule(
                resolver.connection(rule, meta.namespace),
                meta.namespace,
                route_set.gateways,
                route_set.visibility,
                route_set.ports,
            )
            for rule in rules
        )


def _in_order(route_set: RouteSet) -> list[HttpRule]:
    if route_set.precedence is Precedence.AS_WRITTEN:
        return list(route_set.http)
    single = [replace(rule, matches=(match,)) for rule in route_set.http for match in rule.matches or (ANY,)]
    return sorted(single, key=lambda rule: specificity(rule.matches[0]), reverse=True)


def _overlapping(into: _Merging, route_set: RouteSet) -> Meta | None:
    """An earlier set's place if it routes the same requests of the same callers' gateways."""
    for _, bound in into.http:
        shared = set(bound.gateways) & set(route_set.gateways)
        apart = bound.ports and route_set.ports and not set(bound.ports) & set(route_set.ports)
        if shared and not apart and route_set.http:
            return into.sets[0]
    return None


def _ordered(host: str, merging: _Merging) -> HostRoutes:
    rules = [bound for _, bound in merging.http]
    if len({index for index, _ in merging.http}) > 1:
        rules.sort(key=lambda bound: any(is_catch_all(match) for match in bound.rule.matches or (ANY,)))
    return HostRoutes(host, tuple(rules), tuple(merging.tls), tuple(merging.tcp))


def _merged(host: str, first: Meta, later: Meta) -> Diagnostic:
    return Diagnostic(
        Severity.WARNING,
        "routes-merged",
        f"{later} and {first} both route {host}; they are merged, the older first",
        later.source,
        field="spec.hosts",
        hint="keep one object per host, or delegate",
        related=(first.source,),
    )
