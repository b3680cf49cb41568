"""What is noted in the audit log, with who caused it, and the log as the admin API shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from tulle.api import wire
from tulle.api.audit import AuditedEvent, AuditReport
from tulle.api.caller import CALLER
from tulle.sources.store_audit import AuditLog


@dataclass(frozen=True, slots=True)
class Auditor:
    """Notes events; those that a request causes come from its caller. `clock` is in seconds since 1970."""

    log: AuditLog
    clock: Callable[[], float]

    def note(self, event: str, subject: str, detail: str, at: float, origin: str | None = None) -> None:
        """Notes an event; None as its origin: the caller of the admin API, or nobody but ourselves."""
        self.log.audit(event, subject, detail, at, CALLER.get() if origin is None else origin)

    def changed(self, results: Sequence[wire.ObjectResult], revision: int) -> None:
        """Notes objects that were changed by a request, in one event."""
        subjects = [
            f"{each.kind} {each.namespace}/{each.name} {each.result}" for each in results if each.result != "unchanged"
        ]
        if subjects:
            self.note("objects-changed", ", ".join(subjects), f"revision {revision}", self.clock())

    def placed(self, workload: str, before: wire.PlacementView | None, now: wire.PlacementView) -> None:
        """Notes where a workload's sidecar is, when that is new; its readiness and processes come and go."""
        if before is None or _place(before) != _place(now):
            detail = f"outbound {now.outbound}, inbound {', '.join(str(each.listen) for each in now.inbound) or 'none'}"
            if now.network_namespace:
                detail += ", in a network namespace"
            self.note("workload-placed", workload, detail, self.clock())

    def displaced(self, workloads: Sequence[tuple[str, str]]) -> None:
        """Notes that placements were forgotten."""
        self.note("workload-displaced", ", ".join("/".join(each) for each in workloads), "", self.clock())

    def files(self, paths: Sequence[str], revision: int) -> None:
        """Notes that files brought another configuration."""
        self.note("files-changed", ", ".join(paths), f"revision {revision}", self.clock(), "")

    def audited(self, limit: int, known: str | None) -> AuditReport:
        """The log for the admin API."""
        found = self.log.verify(known)
        events = [
            AuditedEvent(
                number=each.number, at=each.at, event=each.event, subject=each.subject, detail=each.detail,
                origin=each.origin, hash=each.hash,
            )
            for each in self.log.audit_log(limit)
        ]
        return AuditReport(events=events, entries=found.entries, head=found.head, fault=found.fault)


def _place(view: wire.PlacementView) -> wire.PlacementView:
    return msgspec.structs.replace(view, ready=False, pid=None, proxy_pid=None)
