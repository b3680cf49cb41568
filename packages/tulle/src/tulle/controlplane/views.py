"""Turns what the rooms know into the admin API's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tulle.api import wire
from tulle.model.diagnostics import Diagnostic
from tulle.model.source import SourceRef
from tulle.model.workloads import Process, Workload
from tulle.objects import RawObject

REDACTED = "(redacted)"
"""What those are shown instead of an environment variable's value who may not change the workload."""


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
        workload_api=process is not None and process.workload_api,
    )


def redacted(declared: RawObject) -> Mapping[str, Any]:
    """An object's document without the values of environment variables, where people keep secrets."""
    spec = declared.body.get("spec")
    if declared.kind != "Workload" or not isinstance(spec, Mapping) or "env" not in spec:
        return declared.body
    return {**declared.body, "spec": {**spec, "env": dict.fromkeys(spec["env"], REDACTED)}}


def without_secrets(view: wire.WorkloadView) -> wire.WorkloadView:
    """The same workload without the values of its environment variables."""
    return msgspec.structs.replace(view, env=dict.fromkeys(view.env, REDACTED))
