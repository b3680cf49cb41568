"""Turns what the rooms know into the admin API's messages."""

from __future__ import annotations

from tulle.api import wire
from tulle.model.diagnostics import Diagnostic
from tulle.model.source import SourceRef
from tulle.model.workloads import Process, Workload


def finding(found: Diagnostic) -> wire.Finding:
    """A diagnostic as a message."""
    return wire.Finding(
        severity=str(found.severity), code=found.code, message=found.message, source=place(found.source),
        field=found.field, hint=found.hint, related=[place(other) for other in found.related],
    )


def place(source: SourceRef) -> wire.Place:
    """A position as a message."""
    return wire.Place(file=source.file, line=source.line, column=source.column)


def workload(declared: Workload, process: Process | None) -> wire.WorkloadView:
    """A declared workload as a supervisor needs it."""
    probe = process.readiness if process is not None else None
    return wire.WorkloadView(
        namespace=declared.meta.namespace,
        name=declared.meta.name,
        service_account=declared.service_account,
        address=declared.address,
        labels=dict(declared.labels),
        ports=[wire.WorkloadPort(number=port.number, name=port.name) for port in declared.ports],
        upstreams=[
            wire.UpstreamPort(service=each.service, port=each.port, local_port=each.local_port)
            for each in declared.upstreams
        ],
        command=list(process.command) if process is not None and process.command is not None else None,
        env=dict(process.env) if process is not None else {},
        directory=process.directory if process is not None else None,
        readiness=wire.Readiness(
            path=probe.path, port=probe.port, period=process.readiness_period.total_seconds()
        ) if process is not None and probe is not None else None,
    )
