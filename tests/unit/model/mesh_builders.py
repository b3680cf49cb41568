"""Short ways to write fragments in tests, and to read what was emitted."""

from __future__ import annotations

from typing import Any

from tulle.link import Linked, link
from tulle.model.fragments import Fragment
from tulle.model.matching import HeaderMatch, MatchKind, RouteMatch, StringMatch
from tulle.model.meta import Meta, labels
from tulle.model.policies import DestinationPolicy, Subset, TrafficPolicy
from tulle.model.routes import Destination, Forward, HttpRule, RouteSet
from tulle.model.services import Service, ServicePort, service_fqdn
from tulle.model.settings import MeshSettings
from tulle.model.source import SourceRef
from tulle.model.workloads import InboundPort, Placement, Upstream, Workload, WorkloadPort, WorkloadRef
from tulle.protos import message, unpack_any
from tulle.xds.client import ClientKind
from tulle.xds.emit import emit
from tulle.xds.scope import scope
from tulle.xds.snapshot import Resource, Snapshot

BACKEND = service_fqdn("backend", "default")
CLIENT = WorkloadRef("default", "client")


def at(line: int = 1) -> SourceRef:
    return SourceRef("mesh.yaml", line, 1)


def meta(kind: str, name: str, created: int = 0, namespace: str = "default", line: int = 1) -> Meta:
    return Meta(created, namespace, name, kind, at(line))


def service(
    name: str = "backend", *ports: ServicePort, namespace: str = "default", created: int = 0, **fields: Any
) -> Service:
    return Service(
        meta("Service", name, created, namespace),
        (service_fqdn(name, namespace),),
        ports or (ServicePort(9001, "http"),),
        labels({"app": name}),
        **fields,
    )


def workload(
    name: str,
    app: str = "backend",
    version: str = "v1",
    *ports: WorkloadPort,
    upstreams: tuple[Upstream, ...] = (),
    **fields: Any,
) -> Workload:
    return Workload(
        meta("Workload", name),
        labels({"app": app, "version": version}),
        "127.0.0.1",
        ports or (WorkloadPort(9001, "http"),),
        app,
        upstreams,
        **fields,
    )


def placement(name: str, base: int, *apps: int) -> Placement:
    inbound = tuple(InboundPort(app, base + 10 + i) for i, app in enumerate(apps or (9001,)))
    return Placement(WorkloadRef("default", name), base, base + 1, inbound)


def to(
    host: str = "backend", subset: str | None = None, weight: int = 1, port: int | None = 9001
) -> Destination:
    return Destination(at(), host, port, subset, weight)


def rule(*destinations: Destination, line: int = 1, **fields: Any) -> HttpRule:
    return HttpRule(at(line), Forward(destinations), **fields)


def when_header(name: str, value: str) -> RouteMatch:
    return RouteMatch(at(), headers=(HeaderMatch(name, StringMatch(MatchKind.EXACT, value)),))


def routes(
    *rules: HttpRule, host: str = "backend", name: str = "backend-route", created: int = 0, **fields: Any
) -> RouteSet:
    return RouteSet(meta("VirtualService", name, created, line=100 + created), (host,), http=rules, **fields)


def subsets(*versions: str) -> tuple[Subset, ...]:
    return tuple(Subset(at(), version, labels({"version": version})) for version in versions)


def policy(
    settings: TrafficPolicy | None = None,
    *versions: str,
    host: str = "backend",
    name: str = "backend-destination",
    created: int = 0,
    **fields: Any,
) -> DestinationPolicy:
    where = meta("DestinationRule", name, created, line=200 + created)
    return DestinationPolicy(where, host, settings or TrafficPolicy(), subsets(*versions), **fields)


def canary() -> list[Fragment]:
    """Two versions of a backend, a client, the header rule and 90/10."""
    return [
        service(),
        workload("backend-v1"),
        workload("backend-v2", version="v2"),
        workload("client", "client"),
        policy(None, "v1", "v2"),
        routes(
            rule(to(subset="v2"), matches=(when_header("user-type", "internal"),)),
            rule(to(subset="v1", weight=90), to(subset="v2", weight=10)),
        ),
    ]


def placements() -> list[Placement]:
    return [placement("backend-v1", 20000), placement("backend-v2", 21000), placement("client", 22000)]


ON_THIS_MACHINE = MeshSettings(allowed_addresses=("127.0.0.0/8",))
"""Everything in these meshes listens on loopback."""


def linked(fragments: list[Fragment] | None = None) -> Linked:
    return link(canary() if fragments is None else fragments, placements(), ON_THIS_MACHINE)


def snapshot(
    fragments: list[Fragment] | None = None,
    ref: WorkloadRef = CLIENT,
    client: ClientKind = ClientKind.SIDECAR,
) -> Snapshot:
    made = emit(scope(linked(fragments).mesh, ref, client))
    made.check()
    return made


def opened(resource: Resource) -> Any:
    """The message in a resource."""
    return unpack_any(message("google.protobuf.Any").FromString(resource.body))


def codes(found: Linked) -> list[str]:
    return [each.code for each in found.diagnostics]
