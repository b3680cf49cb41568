"""Lowers ServiceEntry (a service nobody else declares) and WorkloadEntry (an endpoint elsewhere)."""

from __future__ import annotations

import ipaddress

from tulle.dialects.base import Lowered
from tulle.dialects.fields import is_ip
from tulle.dialects.findings import Findings, did_you_mean, meta_of
from tulle.dialects.istio.schema import service_entry as schema
from tulle.dialects.validate import validate
from tulle.dialects.visibility import visibility
from tulle.model.meta import labels
from tulle.model.services import EndpointPort, Resolution, Service, ServicePort, StaticEndpoint
from tulle.model.workloads import SidecarMode, Workload, WorkloadPort
from tulle.objects import Path, RawObject

TLS_MODE_LABEL = "security.istio.io/tlsMode"
"""With the value ``istio`` it says that a sidecar answers mTLS on the endpoint's ports."""

_RESOLUTION = {
    "NONE": Resolution.PASSTHROUGH,
    "DYNAMIC_DNS": Resolution.PASSTHROUGH,
    "STATIC": Resolution.STATIC,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
}
_DNS = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


def service_entry(obj: RawObject) -> Lowered:
    """ServiceEntry → Service."""
    findings = Findings(obj)
    parsed = validate(schema.ServiceEntry, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    selector = labels(spec.workload_selector.labels) if spec.workload_selector else None
    resolution = Resolution.WORKLOADS if selector is not None else _RESOLUTION[spec.resolution]
    _check(spec, resolution, findings)
    fragment = Service(
        meta=meta_of(obj),
        hosts=tuple(dict.fromkeys(spec.hosts)),
        ports=tuple(
            ServicePort(port.number, port.name, port.target_port, port.protocol.lower() or None)
            for port in spec.ports
        ),
        selector=selector,
        resolution=resolution,
        endpoints=_endpoints(spec, findings),
        addresses=tuple(spec.addresses),
        subject_alt_names=tuple(spec.subject_alt_names),
        external=spec.location == "MESH_EXTERNAL",
        visibility=visibility(spec.export_to, obj.namespace, ("spec", "exportTo"), findings),
    )
    return findings.lowered((fragment,))


def workload_entry(obj: RawObject) -> Lowered:
    """WorkloadEntry → Workload without a managed sidecar."""
    findings = Findings(obj)
    parsed = validate(schema.WorkloadEntry, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    if spec.address is None:
        findings.error("missing-field", "'address' is missing: this entry has no place", ("spec",))
        return findings.lowered(())
    fragment = Workload(
        meta=meta_of(obj),
        labels=labels(spec.labels),
        address=spec.address,
        ports=tuple(WorkloadPort(number, name) for name, number in sorted(spec.ports.items())),
        service_account=spec.service_account or "default",
        sidecar=SidecarMode.REMOTE if spec.labels.get(TLS_MODE_LABEL) == "istio" else SidecarMode.NONE,
        locality=spec.locality,
        network=spec.network,
        weight=spec.weight or 1,
    )
    return findings.lowered((fragment,))


def _endpoints(spec: schema.ServiceEntrySpec, findings: Findings) -> tuple[StaticEndpoint, ...]:
    """The declared endpoints; where there are none, a host that is looked up is its own."""
    return tuple(
        StaticEndpoint(
            source=findings.place(("spec", "endpoints", index)),
            address=endpoint.address or "",
            ports=tuple(EndpointPort(name, number) for name, number in sorted(endpoint.ports.items())),
            labels=labels(endpoint.labels),
            service_account=endpoint.service_account,
            weight=endpoint.weight or 1,
            locality=endpoint.locality,
            network=endpoint.network,
        )
        for index, endpoint in enumerate(spec.endpoints)
    )


def _check(spec: schema.ServiceEntrySpec, resolution: Resolution, findings: Findings) -> None:
    if spec.workload_selector is not None and spec.endpoints:
        message = "must say only one of endpoints and workloadSelector"
        findings.error("conflicting-fields", message, ("spec", "workloadSelector"))
    if resolution is Resolution.STATIC and not spec.endpoints:
        message = "resolution STATIC needs endpoints or a workloadSelector"
        findings.error("missing-field", message, ("spec",), "resolution: DNS resolves the hosts")
    if resolution is Resolution.PASSTHROUGH and spec.endpoints:
        message = "resolution NONE goes where the caller wanted to, so endpoints have no effect"
        findings.error("conflicting-fields", message, ("spec", "endpoints"), "write resolution: STATIC")
    for index, host in enumerate(spec.hosts):
        if host == "*":
            findings.error("wildcard-host", "host * would be everything", ("spec", "hosts", index))
        elif host.startswith("*") and resolution in _DNS and not spec.endpoints:
            message = "a wildcard cannot be resolved by DNS"
            hint = "declare endpoints, or write resolution: NONE to go to the host that a call names"
            findings.error("wildcard-host", message, ("spec", "hosts", index), hint)
    for index, address in enumerate(spec.addresses):
        if not _is_network(address):
            message = f'must be an IP address or network, not "{address[:60]}"'
            findings.error("wrong-value", message, ("spec", "addresses", index))
    _check_ports(spec, findings)
    _check_endpoints(spec, resolution, findings)


def _check_ports(spec: schema.ServiceEntrySpec, findings: Findings) -> None:
    numbers: set[int] = set()
    wild = any(host.startswith("*") for host in spec.hosts) and spec.resolution in ("NONE", "DYNAMIC_DNS")
    for index, port in enumerate(spec.ports):
        at: Path = ("spec", "ports", index)
        if port.number in numbers:
            findings.error("duplicate-port", f"port {port.number} is there twice", (*at, "number"))
        numbers.add(port.number)
        if wild and not spec.workload_selector and port.protocol.upper() in ("TCP", "MONGO"):
            message = (
                "neither an authority nor a server name says which host of the wildcard a connection is for"
            )
            findings.warning("wildcard-host", message, (*at, "protocol"), "write protocol: TLS if it is TLS")


def _check_endpoints(spec: schema.ServiceEntrySpec, resolution: Resolution, findings: Findings) -> None:
    names = {port.name for port in spec.ports}
    for index, endpoint in enumerate(spec.endpoints):
        at: Path = ("spec", "endpoints", index)
        if endpoint.address is None:
            findings.error("missing-field", "'address' is missing", at)
        elif (
            resolution is Resolution.STATIC
            and not is_ip(endpoint.address)
            and not endpoint.address.startswith("unix://")
        ):
            message = f'resolution STATIC needs an IP address, not "{endpoint.address}"'
            findings.error("wrong-value", message, (*at, "address"), "write resolution: DNS")
        for name in endpoint.ports:
            if name not in names:
                message = f"'{name}' is none of the entry's ports"
                findings.error("unknown-port", message, (*at, "ports", name), did_you_mean(name, names))


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
