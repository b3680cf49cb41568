"""Answers who may call whom, from the compiled model alone: no proxy is asked and none need run."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tulle.api import wire
from tulle.api.backend import Refused
from tulle.controlplane.compile import Compiled, Placed, replace_placements
from tulle.controlplane.views import place
from tulle.identity.names import NameRefusedError, SpiffeId
from tulle.model.access import PeerMode
from tulle.model.mesh import Inbound, PlacedWorkload
from tulle.model.services import Protocol
from tulle.model.workloads import InboundPort, Placement, WorkloadRef
from tulle.policy.decide import Decision, Reason, decide
from tulle.policy.paths import canonical
from tulle.policy.request import Call, HttpRequest

_UNKNOWN_PORT = 65535
"""What stands for an application port that will only be picked when the workload starts, counting down."""


def check(compiled: Compiled, question: wire.AccessQuestion) -> wire.AccessAnswer:
    """The answer for each port asked about. Raises `Refused` for a workload or port that does not exist, a caller or a
    path that cannot be.
    """
    if not question.path.startswith("/") and question.path != "*":
        raise Refused.because(422, "malformed", f"a path begins with a slash: {question.path!r} is none")
    workload = _find(compiled, WorkloadRef(question.namespace, question.name))
    ports = [each for each in workload.inbound if question.port in (None, each.app)]
    if not ports:
        have = ", ".join(str(each.app) for each in workload.inbound) or "none"
        message = f"{question.namespace}/{question.name} has no port {question.port}; its ports are {have}"
        raise Refused.because(404, "not-found", message)
    settings = compiled.linked.mesh.settings
    caller = None if question.caller is None else _principal(question.caller, workload, settings.trust_domain)
    path = canonical(settings.path_normalization, question.path.partition("?")[0])
    asked = msgspec.structs.replace(question, caller=caller, path=path)
    return wire.AccessAnswer(verdicts=[_verdict(each, workload, asked, compiled) for each in ports])


def _principal(caller: str, workload: PlacedWorkload, trust_domain: str) -> str:
    """A SPIFFE id without its scheme: of `NAMESPACE/ACCOUNT`, of an `ACCOUNT` beside the workload, or a whole one."""
    try:
        if caller.startswith("spiffe://"):
            return str(SpiffeId.parse(caller)).removeprefix("spiffe://")
        namespace, _, name = caller.rpartition("/")
        return str(SpiffeId(trust_domain, namespace or workload.ref.namespace, name)).removeprefix("spiffe://")
    except NameRefusedError as error:
        message = f"{caller!r} is neither NAMESPACE/ACCOUNT nor a workload's SPIFFE id: {error}"
        raise Refused.because(422, "malformed", message) from error


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
    raise Refused.because(404, "not-found", f"no workload {ref.namespace}/{ref.name} with a sidecar is declared"
                          f"{_instead(compiled, ref)}")


def _instead(compiled: Compiled, ref: WorkloadRef) -> str:
    """Whom to ask about instead: those behind a service of that name, or else the namespace's."""
    mesh = compiled.linked.mesh
    own = {each.host for each in mesh.services.values() if (each.namespace, each.short) == (ref.namespace, ref.name)}
    behind = {
        f"{each.namespace}/{each.name}"
        for each, workload in mesh.workloads.items()
        if any(own.intersection(inbound.services) for inbound in workload.inbound)
    }
    if behind:
        return f"; it is a service, and behind it are {', '.join(sorted(behind))}"
    names = sorted(each.meta.name for each in compiled.managed() if each.meta.namespace == ref.namespace)
    return f"; in the namespace {ref.namespace} are {', '.join(names) or 'none'}"


def _verdict(
    inbound: Inbound, workload: PlacedWorkload, question: wire.AccessQuestion, compiled: Compiled
) -> wire.AccessVerdict:
    """A caller named by account comes by mutual TLS wherever the port takes it, as sidecars do."""
    principal = None if inbound.guard.mode is PeerMode.DISABLE else question.caller
    reads_requests = inbound.protocol.is_http or inbound.protocol is Protocol.UNKNOWN
    request = HttpRequest(
        question.method,
        question.path,
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
    verdict = _view(inbound, decide(inbound.guard, call), call)
    if principal is None and inbound.guard.mode is PeerMode.STRICT:
        return _strict(verdict, workload, compiled)
    return verdict


def _strict(verdict: wire.AccessVerdict, workload: PlacedWorkload, compiled: Compiled) -> wire.AccessVerdict:
    """The refusal of plaintext with where STRICT is said."""
    security = compiled.linked.declared.security
    policy = security.peer_policy(workload.ref.namespace, workload.labels, verdict.port)
    if policy is None:
        return msgspec.structs.replace(verdict, why=f"{verdict.why}; STRICT is the default")
    said = wire.AccessReason(policy=str(policy.meta), action="strict", source=place(policy.meta.source))
    return msgspec.structs.replace(verdict, decided_by=[said])


def _view(inbound: Inbound, decision: Decision, call: Call) -> wire.AccessVerdict:
    return wire.AccessVerdict(
        port=inbound.app,
        allowed=decision.allowed,
        why=decision.why,
        principal=call.principal,
        path=call.http.path if call.http is not None else None,
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
