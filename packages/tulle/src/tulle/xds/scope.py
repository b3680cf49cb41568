"""What one proxy needs of the mesh, and nothing else: the complete input of its emission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tulle.model.access import Issuer
from tulle.model.hosts import pattern_covers, patterns_of
from tulle.model.mesh import (
    BoundConnectionRule,
    BoundRule,
    HostRoutes,
    LinkedService,
    Mesh,
    PlacedWorkload,
    ServiceEndpoints,
)
from tulle.model.meta import Labels, label, selects
from tulle.model.policies import Subset, TrafficPolicy
from tulle.model.routes import MESH_GATEWAY
from tulle.model.settings import CallerPolicy, MeshSettings
from tulle.model.workloads import WorkloadRef
from tulle.xds.client import ClientKind
from tulle.xds.effective import policy_for
from tulle.xds.egress import goes_anywhere
from tulle.xds.revocations import NOBODY, Revocations


class UnknownWorkload(LookupError):
    """The mesh has no workload with a sidecar of that name."""

    def __init__(self, ref: WorkloadRef) -> None:
        super().__init__(f"no placed workload {ref.namespace}/{ref.name}")
        self.ref = ref


@dataclass(frozen=True, slots=True)
class OutboundService:
    """A service as one kind of caller sees it: the policy it must follow and the rules that apply to it."""

    service: LinkedService
    policy: TrafficPolicy
    subsets: tuple[Subset, ...]
    http: tuple[BoundRule, ...]
    tcp: tuple[BoundConnectionRule, ...]
    tls: tuple[BoundConnectionRule, ...] = ()

    def subset(self, name: str) -> Subset | None:
        """The subset of that name, or None."""
        return next((subset for subset in self.subsets if subset.name == name), None)


@dataclass(frozen=True, slots=True, eq=False)
class Outbound:
    """Everything callers of one namespace and shape can reach; one object shared by all of them.

    `services` and `hosts` (routed names that are no service) are by host, sorted. `anywhere`: some calls go where
    only they say. `by_claims`: some routes are chosen by what a token says.
    """

    namespace: str
    settings: MeshSettings
    services: Mapping[str, OutboundService]
    hosts: Mapping[str, HostRoutes]
    anywhere: bool = False
    by_claims: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """The input of `emit`: the proxy itself, what it can reach, and the endpoints of that; who was revoked, as far as
    this proxy has the list of it.
    """

    client: ClientKind
    workload: PlacedWorkload
    outbound: Outbound
    endpoints: Mapping[str, ServiceEndpoints]
    own_services: tuple[LinkedService, ...]
    revoked: Revocations = NOBODY

    @property
    def routing_issuers(self) -> tuple[Issuer, ...]:
        """Whose tokens the workload's calls are routed by; nobody's where no route asks."""
        return self.workload.issuers if self.outbound.by_claims else ()


class Scoper:
    """Scopes of one mesh; callers of one namespace and shape share their `Outbound`.

    A shape is the values of those labels that some rule or policy asks its callers for. What equals its
    counterpart in `previous` keeps its identity, which is what emission's cache goes by.
    """

    def __init__(self, mesh: Mesh, previous: Scoper | None = None) -> None:
        self.mesh = mesh
        self._label_keys = _caller_labels(mesh)
        self._outbounds: dict[tuple[str, Labels], Outbound] = {}
        self._made: dict[str, list[OutboundService]] = {}
        self._older: dict[str, list[OutboundService]] = {}
        if previous is not None:
            self._older = previous._made
            if _same_structure(mesh, previous.mesh):
                self._outbounds, self._made = previous._outbounds, previous._made

    def scope(self, ref: WorkloadRef, client: ClientKind = ClientKind.SIDECAR) -> Scope:
        """The scope of one workload's proxy. Raises `UnknownWorkload`."""
        workload = self.mesh.workloads.get(ref)
        if workload is None:
            raise UnknownWorkload(ref)
        hosts = dict.fromkeys(host for inbound in workload.inbound for host in inbound.services)
        own = tuple(self.mesh.services[host] for host in hosts)
        return Scope(client, workload, self._outbound(workload), self.mesh.endpoints, own)

    def _outbound(self, workload: PlacedWorkload) -> Outbound:
        shape = tuple(
            (key, value) for key in self._label_keys if (value := label(workload.labels, key)) is not None
        )
        key = (workload.ref.namespace, shape)
        found = self._outbounds.get(key)
        if found is None:
            found = self._outbounds[key] = self._build(workload.ref.namespace, shape)
        return found

    def _build(self, namespace: str, shape: Labels) -> Outbound:
        mesh = self.mesh
        caller = _caller_policy(mesh, namespace, shape)
        services = {
            host: self._keep(_service(mesh, service, namespace, shape))
            for host, service in mesh.services.items()
            if (service.namespace == namespace or service.visibility.covers(namespace))
            and _reachable(caller, service.namespace, host)
        }
        hosts = {}
        for host, routes in mesh.routes.items():
            http = () if host in mesh.services else _visible_http(routes.http, namespace, shape)
            http = tuple(each for each in http if _reachable(caller, each.namespace, host))
            if http:
                hosts[host] = HostRoutes(host, http)
        settings = mesh.settings
        if caller is not None and caller.outbound is not None:
            settings = replace(settings, outbound=caller.outbound)
        anywhere = goes_anywhere(settings, (each.service for each in services.values()))
        by_claims = any(
            match.claims
            for rules in (*(each.http for each in services.values()), *(each.http for each in hosts.values()))
            for bound in rules
            for match in bound.rule.matches
        )
        return Outbound(namespace, settings, services, hosts, anywhere, by_claims)

    def _keep(self, made: OutboundService) -> OutboundService:
        """The equal one that another namespace, or the mesh before, has already."""
        known = self._made.setdefault(made.service.host, [])
        for each in known:
            if each == made:
                return each
        older = (each for each in self._older.get(made.service.host, ()) if each == made)
        kept = next(older, made)
        known.append(kept)
        return kept


def scope(mesh: Mesh, ref: WorkloadRef, client: ClientKind = ClientKind.SIDECAR) -> Scope:
    """The scope of one workload's proxy by itself; many of one mesh share work through a `Scoper`."""
    return Scoper(mesh).scope(ref, client)


def _same_structure(mesh: Mesh, other: Mesh) -> bool:
    return (
        mesh.settings == other.settings
        and mesh.services is other.services
        and mesh.routes is other.routes
        and mesh.policies is other.policies
        and mesh.callers == other.callers
    )


def _caller_labels(mesh: Mesh) -> tuple[str, ...]:
    keys: set[str] = set()
    for host in mesh.routes.values():
        for bound in host.http:
            keys.update(key for match in bound.rule.matches for key, _ in match.source_labels)
        for connection in (*host.tcp, *host.tls):
            keys.update(key for match in connection.rule.matches for key, _ in match.source_labels)
    for policies in mesh.policies.values():
        keys.update(key for policy in policies for key, _ in policy.workload_selector)
    for callers in mesh.callers.values():
        keys.update(key for caller in callers for key, _ in caller.selector)
    return tuple(sorted(keys))


def _caller_policy(mesh: Mesh, namespace: str, shape: Labels) -> CallerPolicy | None:
    """The one for these workloads: by selector, of the namespace, of the mesh."""
    own = (each for each in mesh.callers.get(namespace, ()) if selects(each.selector, shape))
    root = (each for each in mesh.callers.get(mesh.settings.root_namespace, ()) if not each.selector)
    return next(own, next(root, None))


def _reachable(caller: CallerPolicy | None, namespace: str, host: str) -> bool:
    if caller is None or caller.reachable is None:
        return True
    return any(
        each.namespace in ("*", namespace) and pattern_covers(each.host, host) for each in caller.reachable
    )


def _service(mesh: Mesh, service: LinkedService, namespace: str, shape: Labels) -> OutboundService:
    policy = policy_for(mesh, service, namespace, shape)
    routes = next((mesh.routes[each] for each in patterns_of(service.host) if each in mesh.routes), None)
    http = () if routes is None else _visible_http(routes.http, namespace, shape)
    tcp = () if routes is None else _visible_tcp(routes.tcp, namespace, shape)
    by_sni = () if routes is None else _visible_tcp(routes.tls, namespace, shape)
    return OutboundService(service, policy.policy, policy.subsets, http, tcp, by_sni)


def _visible_http(rules: tuple[BoundRule, ...], namespace: str, shape: Labels) -> tuple[BoundRule, ...]:
    found = []
    for bound in rules:
        if MESH_GATEWAY not in bound.gateways or not _visible(bound, namespace):
            continue
        matches = tuple(
            match
            for match in bound.rule.matches
            if match.source_namespace in (None, namespace)
            and selects(match.source_labels, shape)
            and (not match.gateways or MESH_GATEWAY in match.gateways)
        )
        if len(matches) == len(bound.rule.matches):
            found.append(bound)
        elif matches:
            found.append(replace(bound, rule=replace(bound.rule, matches=matches)))
    return tuple(found)


def _visible_tcp(
    rules: tuple[BoundConnectionRule, ...], namespace: str, shape: Labels
) -> tuple[BoundConnectionRule, ...]:
    return tuple(
        bound
        for bound in rules
        if MESH_GATEWAY in bound.gateways
        and _visible(bound, namespace)
        and (
            not bound.rule.matches
            or any(
                match.source_namespace in (None, namespace) and selects(match.source_labels, shape)
                for match in bound.rule.matches
            )
        )
    )


def _visible(bound: BoundRule | BoundConnectionRule, namespace: str) -> bool:
    return bound.namespace == namespace or bound.visibility.covers(namespace)
