"""Pass 4: who answers for each service, and each sidecar for what; alone when only endpoints change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tulle.link.access import Guarded, Security
from tulle.link.hosts import Hosts
from tulle.link.protocols import select_protocol
from tulle.model.access import PeerMode
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.egress import forbidden
from tulle.model.mesh import (
    Endpoint,
    Inbound,
    LinkedPort,
    LinkedService,
    LinkedUpstream,
    PlacedWorkload,
    PortEndpoints,
    ServiceEndpoints,
)
from tulle.model.meta import label, selects
from tulle.model.services import (
    EndpointSet,
    Protocol,
    Resolution,
    Service,
    ServicePort,
    StaticEndpoint,
)
from tulle.model.settings import MeshSettings
from tulle.model.source import SourceRef
from tulle.model.workloads import Placement, SidecarMode, Workload, WorkloadPort, WorkloadRef


@dataclass(frozen=True, slots=True)
class Declared:
    """The structure that endpoints are assembled against; made by the passes before."""

    settings: MeshSettings
    hosts: Hosts
    services: Mapping[str, LinkedService]
    declarations: Mapping[str, Service]
    security: Security


@dataclass(slots=True)
class Assembly:
    """What the pass yields: endpoints by host, workloads that have a sidecar, findings."""

    endpoints: dict[str, ServiceEndpoints] = field(default_factory=dict)
    workloads: dict[WorkloadRef, PlacedWorkload] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    """Endpoints of one service while they are gathered, by port."""

    ports: dict[int, list[Endpoint]] = field(default_factory=dict)


_Targets: TypeAlias = dict[tuple[WorkloadRef, int], list[tuple[LinkedService, Protocol]]]
"""By workload and application port: the services that lead there, oldest first."""


def assemble(
    declared: Declared,
    workloads: Iterable[Workload],
    sets: Iterable[EndpointSet],
    placements: Iterable[Placement],
) -> Assembly:
    """Endpoints and placed workloads, whatever the order of the arguments."""
    placed = {placement.workload: placement for placement in placements}
    found = {host: _Found() for host in declared.services}
    targets: _Targets = {}
    result = Assembly()
    by_label = _selectors(declared)
    ordered = sorted(workloads, key=lambda workload: (workload.meta.namespace, workload.meta.name))
    for workload in ordered:
        settled = _settle(workload, placed.get(_ref(workload)))
        for host in _selecting(by_label, settled.workload, declared):
            service = declared.services[host]
            result.diagnostics += _add_workload(found[host], service, settled, declared, targets)
    for host, declaration in declared.declarations.items():
        written = declaration.endpoints or _itself(host, declaration)
        result.diagnostics += _add_static(found[host], declared.services[host], written, declared)
    for endpoint_set in sorted(sets, key=lambda each: each.meta):
        host = declared.hosts.resolve(endpoint_set.host, endpoint_set.meta.namespace)
        if host in found:
            result.diagnostics += _add_static(
                found[host], declared.services[host], endpoint_set.endpoints, declared
            )
    result.endpoints = {host: _gathered(host, found[host], declared) for host in declared.services}
    for workload in ordered:
        placement = placed.get(_ref(workload))
        if placement is not None and workload.sidecar is SidecarMode.MANAGED:
            result.workloads[_ref(workload)] = _place(workload, placement, declared, targets)
    return result


@dataclass(frozen=True, slots=True)
class _Settled:
    """A workload with its picked ports filled in, and where its sidecar listens for each application port."""

    workload: Workload
    listen: Mapping[int, int]


def _ref(workload: Workload) -> WorkloadRef:
    return WorkloadRef(workload.meta.namespace, workload.meta.name)


def _settle(workload: Workload, placement: Placement | None) -> _Settled:
    if placement is None:
        return _Settled(workload, {})
    picked = {port.name: port.app for port in placement.inbound if port.name}
    ports = tuple(
        port if port.number else replace(port, number=picked.get(port.name, 0)) for port in workload.ports
    )
    return _Settled(replace(workload, ports=ports), {port.app: port.listen for port in placement.inbound})


_ANY_LABEL = ("", "")


def _selectors(declared: Declared) -> dict[tuple[str, str, str], list[str]]:
    """Hosts by namespace and one pair of their selector, so that a workload meets few candidates."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for host, declaration in declared.declarations.items():
        if declaration.selector is not None:
            pair = declaration.selector[0] if declaration.selector else _ANY_LABEL
            found.setdefault((declaration.meta.namespace, *pair), []).append(host)
    for hosts in found.values():
        hosts.sort(key=lambda host: (declared.declarations[host].meta, host))
    return found


def _selecting(
    by_label: Mapping[tuple[str, str, str], list[str]], workload: Workload, declared: Declared
) -> Iterator[str]:
    for pair in (_ANY_LABEL, *workload.labels):
        for host in by_label.get((workload.meta.namespace, *pair), ()):
            if selects(declared.declarations[host].selector or (), workload.labels):
                yield host


def _add_workload(
    found: _Found, service: LinkedService, settled: _Settled, declared: Declared, targets: _Targets
) -> list[Diagnostic]:
    workload = settled.workload
    findings = []
    for port in service.ports:
        app = _target_port(port, workload)
        if app is None:
            findings.append(_no_such_port(service, port, workload))
            continue
        if workload.sidecar is SidecarMode.MANAGED:
            targets.setdefault((_ref(workload), app), []).append((service, port.protocol))
        reach = settled.listen.get(app) if workload.sidecar is SidecarMode.MANAGED else app
        if reach is None or not workload.ready:
            continue  # not started, or not ready: nobody is sent there
        if workload.sidecar is not SidecarMode.MANAGED:
            wrong = _off_limits(workload.address, workload.meta.source, service.host, declared)
            if wrong is not None:
                findings.append(wrong)
                continue
        endpoint = Endpoint(
            workload.address,
            reach,
            workload.labels,
            _answers_mtls(workload, app, declared),
            workload.weight,
            workload.locality,
            workload.meta.name,
            workload.meta.namespace,
            spiffe_id(declared.settings, workload.meta.namespace, workload.service_account),
        )
        found.ports.setdefault(port.number, []).append(endpoint)
    return findings


def _answers_mtls(workload: Workload, app: int, declared: Declared) -> bool:
    """Whether a sidecar is there and takes mutual TLS on the port (auto mTLS)."""
    if workload.sidecar is SidecarMode.NONE:
        return False
    mode = declared.security.mode(workload.meta.namespace, workload.labels, app)
    return mode is not PeerMode.DISABLE


def _target_port(port: LinkedPort, workload: Workload) -> int | None:
    """The application's port that a service port leads to, or None when the workload has no such port.

    A workload that lists no ports is believed to listen on every number. What a WorkloadEntry calls by the
    service port's own name comes first, as in Istio.
    """
    named = {each.name: each.number for each in workload.ports if each.name}
    if workload.sidecar is not SidecarMode.MANAGED and port.name in named:
        return named[port.name]
    if isinstance(port.target, str):
        return named.get(port.target)
    numbers = {each.number for each in workload.ports}
    if not numbers or port.target in numbers or workload.sidecar is not SidecarMode.MANAGED:
        return port.target
    return None


def _no_such_port(service: LinkedService, port: LinkedPort, workload: Workload) -> Diagnostic:
    have = ", ".join(f"{each.name or '-'}:{each.number}" for each in workload.ports) or "none"
    return Diagnostic(
        Severity.WARNING,
        "target-port-not-found",
        f"port {port.number} of {service.host} targets {port.target!r}, which {workload.meta} does not have",
        service.source,
        field="spec.ports.targetPort",
        hint=f"the workload's ports are {have}",
        related=(workload.meta.source,),
    )


_NAMED = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN, Resolution.PASSTHROUGH)


def _itself(host: str, declaration: Service) -> tuple[StaticEndpoint, ...]:
    """A host without endpoints that is looked up is its own."""
    if declaration.resolution not in _NAMED or host.startswith("*"):
        return ()
    return (StaticEndpoint(declaration.meta.source, host),)


def _off_limits(address: str, source: SourceRef, host: str, declared: Declared) -> Diagnostic | None:
    """A finding about an endpoint that would lead to the machine itself, or to its credentials."""
    if not forbidden(address, declared.settings.allowed_addresses):
        return None
    return Diagnostic(
        Severity.WARNING,
        "forbidden-address",
        f"{address} is no endpoint of {host}: loopback, link-local and metadata addresses are not called",
        source,
        hint="MeshSettings spec.egress.allowedAddresses allows some",
    )


def _add_static(
    found: _Found, service: LinkedService, endpoints: Iterable[StaticEndpoint], declared: Declared
) -> list[Diagnostic]:
    findings = []
    for endpoint in endpoints:
        wrong = _off_limits(endpoint.address, endpoint.source, service.host, declared)
        if wrong is not None:
            findings.append(wrong)
            continue
        named = {each.name: each.number for each in endpoint.ports}
        account = endpoint.service_account
        mtls = not service.external and label(endpoint.labels, "security.istio.io/tlsMode") == "istio"
        for port in service.ports:
            fallback = port.target if isinstance(port.target, int) else port.number
            found.ports.setdefault(port.number, []).append(
                Endpoint(
                    endpoint.address,
                    0 if endpoint.address.startswith("unix://") else named.get(port.name, fallback),
                    endpoint.labels,
                    mtls,
                    endpoint.weight,
                    endpoint.locality,
                    "",
                    service.namespace,
                    None if account is None else spiffe_id(declared.settings, service.namespace, account),
                )
            )
    return findings


def _gathered(host: str, found: _Found, declared: Declared) -> ServiceEndpoints:
    ports = tuple(
        PortEndpoints(number, tuple(sorted(set(found.ports[number]), key=_endpoint_order)))
        for number in sorted(found.ports)
    )
    accounts = {e.account for group in ports for e in group.endpoints if e.mtls and e.account is not None}
    accounts.update(_aliased(declared.settings, accounts))
    accounts.update(declared.services[host].subject_alt_names)
    return ServiceEndpoints(host, ports, tuple(sorted(accounts)))


def _aliased(settings: MeshSettings, accounts: Iterable[str]) -> list[str]:
    """The same accounts by the mesh's other names."""
    own = f"spiffe://{settings.trust_domain}/"
    return [
        f"spiffe://{alias}/{account.removeprefix(own)}"
        for alias in settings.trust_domain_aliases
        for account in accounts
        if account.startswith(own)
    ]


def _endpoint_order(endpoint: Endpoint) -> tuple[str, str, int, str, str]:
    return (endpoint.locality, endpoint.address, endpoint.port, endpoint.namespace, endpoint.workload)


def _place(workload: Workload, placement: Placement, declared: Declared, targets: _Targets) -> PlacedWorkload:
    ref = _ref(workload)
    namespace = workload.meta.namespace
    names = {port.number: port for port in _settle(workload, placement).workload.ports}
    inbound = []
    for port in sorted(placement.inbound, key=lambda each: each.app):
        serving = targets.get((ref, port.app), [])
        protocol = _inbound_protocol([protocol for _, protocol in serving], names.get(port.app))
        hosts = tuple(dict.fromkeys(service.host for service, _ in serving))
        guarded = Guarded(
            namespace,
            workload.labels,
            f"{namespace}/{workload.service_account}",
            port.app,
            hosts,
            port.name or getattr(names.get(port.app), "name", ""),
            workload.meta,
            workload.default_inbound,
        )
        guard = declared.security.guard(guarded)
        inbound.append(Inbound(port.app, port.listen, protocol, hosts, guard))
    itself = Guarded(namespace, workload.labels, f"{namespace}/{workload.service_account}", 0)
    picked = {(each.service, each.port): each.local for each in placement.upstreams}
    upstreams = tuple(
        LinkedUpstream(
            declared.hosts.resolve(each.service, namespace),
            each.port,
            each.local_port or picked.get((each.service, each.port), 0),
        )
        for each in workload.upstreams
    )
    return PlacedWorkload(
        ref,
        workload.labels,
        workload.address,
        workload.service_account,
        spiffe_id(declared.settings, namespace, workload.service_account),
        placement.outbound,
        placement.admin,
        workload.locality,
        tuple(inbound),
        tuple(each for each in upstreams if each.local_port),
        declared.security.issuers(itself),
        placement.network_namespace,
    )


def _inbound_protocol(announced: list[Protocol], port: WorkloadPort | None) -> Protocol:
    """What the oldest service says; without any, what the workload's own port says."""
    if announced:
        return announced[0]
    if port is None:
        return Protocol.UNKNOWN
    return select_protocol(ServicePort(port.number, port.name, app_protocol=port.app_protocol))


def spiffe_id(settings: MeshSettings, namespace: str, account: str) -> str:
    """The identity of a service account; an account that is a SPIFFE id already stays."""
    if account.startswith("spiffe://"):
        return account
    return f"spiffe://{settings.trust_domain}/ns/{namespace}/sa/{account}"
