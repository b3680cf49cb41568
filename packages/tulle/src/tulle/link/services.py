"""Pass 1: one `LinkedService` per full name; of several objects that claim a name, the oldest has it."""

from __future__ import annotations

from collections.abc import Iterable

from tulle.link.grants import Ownership, refused
from tulle.link.protocols import select_protocol
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.mesh import LinkedPort, LinkedService
from tulle.model.services import Service


def link_services(
    services: Iterable[Service], ownership: Ownership
) -> tuple[dict[str, LinkedService], dict[str, Service], list[Diagnostic]]:
    """The services by host, the declarations they came from, and conflicts found. `services` oldest first."""
    linked: dict[str, LinkedService] = {}
    domain = ownership.settings.domain
    declared: dict[str, Service] = {}
    findings: list[Diagnostic] = []
    for service in services:
        for written in service.hosts:
            host = written.lower().rstrip(".")
            owners = ownership.missing(service.meta, host)
            if owners:
                findings.append(refused(service, host, owners))
                continue
            first = declared.get(host)
            if first is not None:
                findings.append(_conflict(host, first, service))
                continue
            declared[host] = service
            linked[host] = _link(service, host, domain)
    return dict(sorted(linked.items())), declared, findings


def _link(service: Service, host: str, domain: str) -> LinkedService:
    ports = tuple(
        LinkedPort(
            port.number, port.name, select_protocol(port), port.number if port.target is None else port.target
        )
        for port in service.ports
    )
    suffix = f".{service.meta.namespace}.svc.{domain}"
    short = host.removesuffix(suffix) if host.endswith(suffix) else None
    return LinkedService(
        host=host,
        name=service.meta.name if short is None else short,
        namespace=service.meta.namespace,
        source=service.meta.source,
        ports=ports,
        resolution=service.resolution,
        visibility=service.visibility,
        short=short if short and "." not in short else None,
        subject_alt_names=tuple(sorted(service.subject_alt_names)),
        external=service.external,
        headless=service.headless,
    )


def _conflict(host: str, first: Service, later: Service) -> Diagnostic:
    return Diagnostic(
        Severity.WARNING,
        "host-claimed-twice",
        f"{later.meta} declares {host}, which {first.meta} already has; the older one stays",
        later.meta.source,
        related=(first.meta.source,),
    )
