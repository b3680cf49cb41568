"""Lowers a Tulle Workload to the instance the mesh sees and the process to run for it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePath

from tulle.dialects.base import Lowered
from tulle.dialects.fields import is_ip
from tulle.dialects.findings import Findings, did_you_mean, meta_of
from tulle.dialects.inbound_default import inbound_default
from tulle.dialects.tulle import schema
from tulle.dialects.validate import validate
from tulle.model.meta import labels
from tulle.model.workloads import HttpProbe, Process, Upstream, Workload, WorkloadPort, WorkloadRef
from tulle.objects import Path, RawObject

DEFAULT_PERIOD = timedelta(seconds=1)


def workload(obj: RawObject) -> Lowered:
    """Workload → Workload and Process."""
    findings = Findings(obj)
    parsed = validate(schema.Workload, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    _check(spec, findings)
    instance = Workload(
        meta=meta_of(obj),
        labels=labels(obj.labels),
        address=spec.address,
        ports=tuple(WorkloadPort(port.port, port.name or "", port.app_protocol) for port in spec.ports),
        service_account=spec.service_account,
        upstreams=tuple(
            Upstream(findings.place(("spec", "upstreams", index)), up.service, up.port, up.local_port)
            for index, up in enumerate(spec.upstreams)
        ),
        locality=spec.locality,
        weight=spec.weight,
        default_inbound=inbound_default(findings),
    )
    return findings.lowered((instance, _process(obj, spec)))


def _process(obj: RawObject, spec: schema.WorkloadSpec) -> Process:
    probe = spec.readiness
    return Process(
        meta=meta_of(obj),
        workload=WorkloadRef(obj.namespace, obj.name),
        command=tuple(spec.command) if spec.command is not None else None,
        env=tuple(sorted(spec.env.items())),
        directory=str(PurePath(obj.source.file).parent),
        readiness=HttpProbe(probe.http_get.path, probe.http_get.port) if probe else None,
        workload_api=spec.workload_api,
        readiness_period=(probe.period if probe and probe.period else DEFAULT_PERIOD),
    )


def _check(spec: schema.WorkloadSpec, findings: Findings) -> None:
    if not is_ip(spec.address):
        message = f'must be an IP address of this machine, not "{spec.address}"'
        findings.error("wrong-value", message, ("spec", "address"))
    numbers: set[int] = set()
    names: set[str] = set()
    for index, port in enumerate(spec.ports):
        if port.port and port.port in numbers:
            message = f"port {port.port} is there twice"
            findings.error("duplicate-port", message, ("spec", "ports", index, "port"))
        if not port.port and not port.name:
            message = "a port that is picked needs a name, for services to refer to it"
            findings.error("unnamed-port", message, ("spec", "ports", index), "add name: http")
        if port.name and port.name in names:
            message = f"port name '{port.name}' is used twice"
            findings.error("duplicate-port", message, ("spec", "ports", index, "name"))
        numbers.add(port.port)
        names.add(port.name or "")
    for index, up in enumerate(spec.upstreams):
        if up.local_port and up.local_port in numbers:
            message = f"localPort {up.local_port} is taken by a port or another upstream of this workload"
            findings.error("duplicate-port", message, ("spec", "upstreams", index, "localPort"))
        numbers.add(up.local_port)
    if spec.readiness is not None:
        _check_probe(spec.readiness.http_get.port, numbers, names, findings)


def _check_probe(port: int | str, numbers: set[int], names: set[str], findings: Findings) -> None:
    at: Path = ("spec", "readiness", "httpGet", "port")
    message = f"port {port} is none of the workload's ports"
    if isinstance(port, str) and port not in names:
        findings.error("unknown-port", message, at, did_you_mean(port, names - {""}))
    elif isinstance(port, int) and port not in numbers:
        findings.warning("unknown-port", message, at)
