"""The passes in order. Each takes what the passes before it made; none looks at the order of arrival."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tulle.link.access import SecurityFragments, link_security
from tulle.link.check import References, check_claims, check_fallbacks, check_policies, check_routes
from tulle.link.endpoints import Assembly, Declared, assemble
from tulle.link.grants import Ownership
from tulle.link.groups import resolve_groups
from tulle.link.hosts import Hosts
from tulle.link.intentions import link_intentions
from tulle.link.policies import link_policies
from tulle.link.routes import link_routes
from tulle.link.servers import Served, ServerFragments, link_servers
from tulle.link.services import link_services
from tulle.link.settings import link_callers, link_settings
from tulle.model.access import AccessPolicy, OperationSet, PeerPolicy, TokenPolicy
from tulle.model.diagnostics import Diagnostic
from tulle.model.fragments import Fragment
from tulle.model.grants import Grant
from tulle.model.intentions import IntentionSet
from tulle.model.mesh import LinkedPolicy, LinkedService, Mesh
from tulle.model.policies import DestinationPolicy
from tulle.model.routes import Destination, RouteSet
from tulle.model.servers import CallerSet, NamespaceDefault, ServerGrant, ServerPort, ServerRoute
from tulle.model.services import EndpointSet, Service
from tulle.model.settings import CallerPolicy, MeshSettings, SettingsPatch
from tulle.model.source import SourceRef
from tulle.model.workloads import Placement, Upstream, Workload


@dataclass(frozen=True, slots=True)
class Linked:
    """The mesh and everything found on the way, sorted by place.

    `declared` is what `relink_endpoints` needs beside a mesh.
    """

    mesh: Mesh
    diagnostics: tuple[Diagnostic, ...]
    declared: Declared
    structural: tuple[Diagnostic, ...]


def link(
    fragments: Iterable[Fragment],
    placements: Iterable[Placement] = (),
    settings: MeshSettings | None = None,
) -> Linked:
    """One mesh from everything that dialects lowered; the same for any order of `fragments`."""
    every = list(fragments)
    chosen, findings = link_settings(_oldest_first(every, SettingsPatch), settings or MeshSettings())
    callers, found = link_callers(_oldest_first(every, CallerPolicy))
    findings += found
    grants = _oldest_first(every, Grant)
    services, declarations, found = link_services(_oldest_first(every, Service), Ownership(chosen, grants))
    findings += found
    hosts = Hosts(services.keys(), chosen.domain)
    written = _oldest_first(every, DestinationPolicy)
    policies, found = link_policies(written, hosts)
    findings += found
    sets, found = resolve_groups(_oldest_first(every, RouteSet), _oldest_first(every, OperationSet))
    findings += found
    routes, found = link_routes(sets, hosts, services, Ownership(chosen, grants, declarations))
    findings += found
    workloads = _oldest_first(every, Workload)
    findings += check_routes(routes.values(), References(services, policies))
    findings += check_policies(written, hosts)
    linked = [each for found in policies.values() for each in found]
    findings += check_fallbacks(linked, References(services, policies))
    findings += _check_upstreams(workloads, hosts, services)
    intended, found = link_intentions(_oldest_first(every, IntentionSet), hosts, chosen)
    findings += found
    served, found = link_servers(_servers(every))
    findings += found
    security, found = link_security(_security(every, intended, served), hosts, services, chosen)
    findings += found
    findings += check_claims(routes.values(), security.tokens)
    declared = Declared(chosen, hosts, services, declarations, security)
    assembly = assemble(declared, workloads, _oldest_first(every, EndpointSet), placements)
    mesh = Mesh(chosen, services, routes, policies, assembly.endpoints, assembly.workloads, callers)
    return _linked(mesh, declared, findings, assembly)


def _security(every: list[Fragment], intended: Iterable[AccessPolicy], served: Served) -> SecurityFragments:
    return SecurityFragments(
        _oldest_first((*every, *intended, *served.policies), AccessPolicy),
        _oldest_first(every, OperationSet),
        _oldest_first(every, PeerPolicy),
        _oldest_first(every, TokenPolicy),
        served,
    )


def _servers(every: list[Fragment]) -> ServerFragments:
    return ServerFragments(
        _oldest_first(every, ServerPort),
        _oldest_first(every, ServerGrant),
        _oldest_first(every, CallerSet),
        _oldest_first(every, ServerRoute),
        _oldest_first(every, NamespaceDefault),
    )


def relink_endpoints(
    previous: Linked,
    workloads: Iterable[Workload],
    sets: Iterable[EndpointSet],
    placements: Iterable[Placement],
) -> Linked:
    """The fast path: `previous` with other workloads, endpoint sets and placements, and the same structure.

    Equal endpoints keep their identity, so that emission can tell cheaply what did not change.
    """
    assembly = assemble(previous.declared, workloads, sets, placements)
    old = previous.mesh
    kept = {
        host: old.endpoints[host] if old.endpoints.get(host) == found else found
        for host, found in assembly.endpoints.items()
    }
    mesh = replace(old, endpoints=kept, workloads=assembly.workloads)
    return _linked(mesh, previous.declared, previous.structural, assembly)


def _linked(mesh: Mesh, declared: Declared, findings: Sequence[Diagnostic], assembly: Assembly) -> Linked:
    structural = tuple(sorted(findings, key=_by_place))
    every = tuple(sorted((*structural, *assembly.diagnostics), key=_by_place))
    return Linked(mesh, every, declared, structural)


def _by_place(finding: Diagnostic) -> tuple[SourceRef, str, str]:
    return (finding.source, finding.code, finding.message)


_F = TypeVar(
    "_F",
    Service,
    DestinationPolicy,
    RouteSet,
    Workload,
    EndpointSet,
    AccessPolicy,
    OperationSet,
    PeerPolicy,
    TokenPolicy,
    SettingsPatch,
    CallerPolicy,
    Grant,
    IntentionSet,
    ServerPort,
    ServerGrant,
    CallerSet,
    ServerRoute,
    NamespaceDefault,
)


def _oldest_first(fragments: Iterable[Fragment], kind: type[_F]) -> list[_F]:
    """All fragments of one type by age, then namespace and name; those of one object stay as lowered."""
    chosen = [fragment for fragment in fragments if isinstance(fragment, kind)]
    return sorted(chosen, key=lambda fragment: fragment.meta)


def _check_upstreams(
    workloads: Iterable[Workload], hosts: Hosts, services: Mapping[str, LinkedService]
) -> list[Diagnostic]:
    references = References(services, dict[str, tuple[LinkedPolicy, ...]]())
    return [
        finding
        for workload in workloads
        for upstream in workload.upstreams
        for finding in references.check(_upstream_destination(upstream, workload, hosts), str(workload.meta))
    ]


def _upstream_destination(upstream: Upstream, workload: Workload, hosts: Hosts) -> Destination:
    host = hosts.resolve(upstream.service, workload.meta.namespace)
    return Destination(upstream.source, host, upstream.port)
