"""Answers who may call whom, from the compiled model alone: no proxy is asked and none need run."""

from __future__ import annotations

from collections.abc import Iterator

from tulle.api import wire
from tulle.api.backend import Refused
from tulle.controlplane.compile import Compiled, Placed, replace_placements
from tulle.controlplane.views import place
from tulle.model.access import PeerMode
from tulle.model.mesh import Inbound, PlacedWorkload
from tulle.model.services import Protocol
from tulle.model.workloads import InboundPort, Placement, WorkloadRef
from tulle.policy.decide import Decision, Reason, decide
from tulle.policy.request import Call, HttpRequest

_UNKNOWN_PORT = 65535
"""What stands for an application port that will only be picked when the workload starts, counting down."""


def check(compiled: Compiled, question: wire.AccessQuestion) -> wire.AccessAnswer:
    """The answer for each port asked about. Raises `Refused` for a workload or port that does not exist."""
    workload = _find(compiled, WorkloadRef(question.namespace, question.name))
    ports = [each for each in workload.inbound if question.port in (None, each.app)]
    if not ports:
        have = ", ".join(str(each.app) for each in workload.inbound) or "none"
        message = f"{question.namespace}/{question.name} has no port {question.port}; its ports are {have}"
        raise Refused.because(404, "not-found", message)
    settings = compiled.linked.mesh.settings
    return wire.AccessAnswer(
        verdicts=[_verdict(each, workload, question, settings.trust_domain) for each in ports]
    )


def _find(compiled: Compiled, ref: WorkloadRef) -> PlacedWorkload:
    """The workload, as if placed where it is not."""
    found = compiled.linked.mesh.workloads.get(ref)
    if found is not None:
        return found
    for declared in compiled.managed():
        if WorkloadRef(declared.meta.namespace, declared.meta.name) == ref:
            inbound = tuple(
                InboundPort(port.number or _UNKNOWN_PORT - index, 1, port.name)
                for index, port in enumerate(declared.ports)
            )
            placed = Placed(Placement(ref, 1, 1, inbound), ready=False)
            return replace_placements(compiled, [placed]).linked.mesh.workloads[ref]
    message = f"no workload {ref.namespace}/{ref.name} with a sidecar is declared"
    raise Refused.because(404, "not-found", message)


def _verdict(
    inbound: Inbound, workload: PlacedWorkload, question: wire.AccessQuestion, trust_domain: str
) -> wire.AccessVerdict:
    """A caller named by account comes by mutual TLS wherever the port takes it, as sidecars do."""
    account = None if inbound.guard.mode is PeerMode.DISABLE else question.caller
    principal = None
    if account is not None:
        namespace, _, name = account.rpartition("/")
        principal = f"{trust_domain}/ns/{namespace or workload.ref.namespace}/sa/{name}"
    reads_requests = inbound.protocol.is_http or inbound.protocol is Protocol.UNKNOWN
    request = HttpRequest(
        question.method,
        question.path.partition("?")[0],
        question.host or next(iter(inbound.services), ""),
        {name.lower(): value for name, value in question.headers.items()},
        question.claims,
    )
    call = Call(
        inbound.app,
        principal,
        request if reads_requests else None,
        question.source_ip,
        question.source_ip,
        workload.address,
    )
    return _view(inbound, decide(inbound.guard, call), principal)


def _view(inbound: Inbound, decision: Decision, principal: str | None) -> wire.AccessVerdict:
    return wire.AccessVerdict(
        port=inbound.app,
        allowed=decision.allowed,
        why=decision.why,
        principal=principal,
        mode=str(inbound.guard.mode),
        decided_by=list(_rules(decision.reasons)),
        audited_by=list(_rules(decision.audited)),
        would_be_denied_by=list(_rules(decision.dry_run)),
        asks_about_it=list(_rules(decision.asked)),
    )


def _rules(reasons: tuple[Reason, ...]) -> Iterator[wire.AccessReason]:
    for each in reasons:
        yield wire.AccessReason(
            policy=str(each.policy.meta),
            rule=each.rule,
            action=str(each.policy.action),
            source=place(each.source),
        )
