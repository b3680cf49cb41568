"""Lowers Kubernetes objects: a Service is a callable name, Endpoints and EndpointSlices are its addresses."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.fields import is_ip
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.inbound_default import inbound_default
from tulle.dialects.kubernetes import schema
from tulle.dialects.metadata import Envelope
from tulle.dialects.validate import validate
from tulle.dialects.visibility import visibility
from tulle.model.meta import PUBLIC, Visibility, labels
from tulle.model.servers import NamespaceDefault
from tulle.model.services import (
    EndpointPort,
    EndpointSet,
    Resolution,
    Service,
    ServicePort,
    StaticEndpoint,
    service_fqdn,
)
from tulle.objects import Path, RawObject

EXPORT_TO = "networking.istio.io/exportTo"
SERVICE_NAME = "kubernetes.io/service-name"

_PORT_NAME_MAX = 15
_NAME_MAX = 63


def service(obj: RawObject) -> Lowered:
    """Service → Service."""
    findings = Findings(obj)
    parsed = validate(schema.Service, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    if "." in obj.name or len(obj.name) > _NAME_MAX:
        message = "the name of a Service is one part of a host name: without '.', at most 63 characters"
        findings.error("wrong-value", message, ("metadata", "name"))
    _check_ports(spec, findings)
    if spec.session_affinity == "ClientIP":
        findings.unsupported(("spec", "sessionAffinity"), "use a DestinationRule with useSourceIp")
    if spec.internal_traffic_policy == "Local":
        findings.unsupported(("spec", "internalTrafficPolicy"), "every endpoint is used")
    if spec.type in ("NodePort", "LoadBalancer"):
        message = f"type {spec.type} opens nothing outside the mesh; inside, it works as ClusterIP"
        findings.warning("service-type", message, ("spec", "type"))
    if spec.type == "ExternalName":
        return findings.lowered(_external_name(obj, spec, findings))
    headless = spec.cluster_ip == "None"
    address = spec.cluster_ip if spec.cluster_ip and is_ip(spec.cluster_ip) else None
    if spec.cluster_ip and not headless and address is None:
        findings.error("wrong-value", 'must be an IP address or "None"', ("spec", "clusterIP"))
    fragment = Service(
        meta=meta_of(obj),
        hosts=(service_fqdn(obj.name, obj.namespace),),
        ports=_ports(spec),
        selector=labels(spec.selector) if spec.selector else None,
        addresses=(address,) if address else (),
        headless=headless,
        visibility=_exported(obj, findings),
    )
    return findings.lowered((fragment,))


def service_account(obj: RawObject) -> Lowered:
    """ServiceAccount → nothing: accounts exist by being used; the object is checked all the same."""
    return _checked(schema.ServiceAccount, obj)


def namespace(obj: RawObject) -> Lowered:
    """Namespace → NamespaceDefault where its annotation says one; namespaces exist by being used."""
    findings = Findings(obj)
    if validate(schema.Namespace, findings) is None:
        return findings.lowered(())
    default = inbound_default(findings)
    return findings.lowered(() if default is None else (NamespaceDefault(meta_of(obj), default),))


def endpoints(obj: RawObject) -> Lowered:
    """Endpoints → EndpointSet of the service with the same name, without addresses that are not ready."""
    findings = Findings(obj)
    parsed = validate(schema.Endpoints, findings)
    if parsed is None:
        return findings.lowered(())
    found = tuple(
        StaticEndpoint(
            source=findings.place(("subsets", index, "addresses", number)),
            address=address.ip,
            ports=_endpoint_ports(subset.ports),
        )
        for index, subset in enumerate(parsed.subsets)
        for number, address in enumerate(subset.addresses)
    )
    host = service_fqdn(obj.name, obj.namespace)
    return findings.lowered((EndpointSet(meta_of(obj), host, found),))


def endpoint_slice(obj: RawObject) -> Lowered:
    """EndpointSlice → EndpointSet of the service that its label names."""
    findings = Findings(obj)
    parsed = validate(schema.EndpointSlice, findings)
    if parsed is None:
        return findings.lowered(())
    name = obj.labels.get(SERVICE_NAME)
    if name is None:
        message = f"an EndpointSlice without the label {SERVICE_NAME} belongs to no service"
        findings.error("missing-field", message, ("metadata", "labels"), f"add {SERVICE_NAME}: NAME")
        return findings.lowered(())
    found = tuple(
        StaticEndpoint(
            source=findings.place(("endpoints", index)),
            address=address,
            ports=_endpoint_ports(parsed.ports),
            locality=f"/{endpoint.zone}" if endpoint.zone else "",
        )
        for index, endpoint in enumerate(parsed.endpoints)
        if endpoint.conditions.ready
        for address in endpoint.addresses
    )
    return findings.lowered((EndpointSet(meta_of(obj), service_fqdn(name, obj.namespace), found),))


def _checked(kind: type[Envelope], obj: RawObject) -> Lowered:
    findings = Findings(obj)
    validate(kind, findings)
    return findings.lowered(())


def _ports(spec: schema.ServiceSpec) -> tuple[ServicePort, ...]:
    return tuple(
        ServicePort(
            number=port.port,
            name=port.name or "",
            target=_target(port.target_port),
            app_protocol=port.app_protocol,
            transport=port.protocol,
        )
        for port in spec.ports
    )


def _target(written: int | str | None) -> int | str | None:
    """A number in quotes is a number, as in Kubernetes' IntOrString; 0 means the same as left out."""
    number = int(written) if isinstance(written, str) and written.isdecimal() else written
    return None if number == 0 else number


def _check_ports(spec: schema.ServiceSpec, findings: Findings) -> None:
    headless = spec.cluster_ip == "None"
    if not spec.ports and spec.type != "ExternalName" and not headless:
        findings.error("missing-field", "a Service needs at least one port", ("spec", "ports"))
    names: dict[str, int] = {}
    numbers: dict[tuple[int, str], int] = {}
    for index, port in enumerate(spec.ports):
        at: Path = ("spec", "ports", index)
        if not port.name and len(spec.ports) > 1:
            message = "a port of a Service with several ports needs a name"
            findings.error("missing-field", message, at, "add name: http")
        elif port.name and names.setdefault(port.name, index) != index:
            message = f"port name '{port.name}' is used twice"
            findings.error("duplicate-port", message, (*at, "name"))
        if numbers.setdefault((port.port, port.protocol), index) != index:
            findings.error("duplicate-port", f"port {port.port} is there twice", (*at, "port"))
        _check_target(port.target_port, (*at, "targetPort"), findings)


def _check_target(target: int | str | None, at: Path, findings: Findings) -> None:
    number = _target(target)
    if isinstance(number, int) and not 1 <= number <= 65535:
        findings.error("out-of-range", f"must be a port from 1 to 65535, not {number}", at)
    elif isinstance(number, str) and not (0 < len(number) <= _PORT_NAME_MAX and number.islower()):
        hint = "a port name has at most 15 lower-case letters, digits and '-', with a letter among them"
        findings.error("wrong-value", f'"{number}" is not the name of a port', at, hint)


def _external_name(obj: RawObject, spec: schema.ServiceSpec, findings: Findings) -> tuple[Service, ...]:
    at: Path = ("spec", "externalName")
    if spec.external_name is None:
        findings.error("missing-field", "type ExternalName needs an externalName", ("spec",))
        return ()
    if not spec.ports:
        findings.warning("no-ports", "without ports nothing can be routed to this name", ("spec",))
    return (
        Service(
            meta=meta_of(obj),
            hosts=(service_fqdn(obj.name, obj.namespace),),
            ports=_ports(spec),
            resolution=Resolution.DNS,
            endpoints=(StaticEndpoint(source=findings.place(at), address=spec.external_name),),
            external=True,
            visibility=_exported(obj, findings),
        ),
    )


def _exported(obj: RawObject, findings: Findings) -> Visibility:
    written = obj.annotations.get(EXPORT_TO)
    if written is None:
        return PUBLIC
    names = [name.strip() for name in written.split(",")]
    return visibility(names, obj.namespace, ("metadata", "annotations", EXPORT_TO), findings)


def _endpoint_ports(ports: list[schema.EndpointPort]) -> tuple[EndpointPort, ...]:
    return tuple(EndpointPort(port.name, port.port) for port in ports if port.protocol == "TCP")
