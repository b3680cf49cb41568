"""What the admin API needs of the control plane behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tulle.api import wire


class Refused(Exception):
    """A request that cannot be granted: ``status`` is the HTTP status, ``failure`` the answer's body."""

    def __init__(self, status: int, failure: wire.Failure) -> None:
        super().__init__(failure.message)
        self.status = status
        self.failure = failure

    @classmethod
    def because(cls, status: int, code: str, message: str) -> Refused:
        """A refusal without diagnostics."""
        return cls(status, wire.Failure(code=code, message=message))


class Backend(Protocol):
    """The operations behind the routes. Methods raise `Refused`; all run in one event loop and return at once,
    except those that say that they wait.
    """

    def healthy(self) -> bool:
        """Whether a configuration is in force and proxies are served."""

    def apply(self, request: wire.ApplyRequest) -> wire.ApplyResponse:
        """Creates or changes objects, all or none."""

    def objects(self, kind: str, namespace: str | None, name: str | None) -> Sequence[Mapping[str, Any]]:
        """The documents of a kind (by any of its names), of one namespace or all, of one name or all."""

    def delete(self, kind: str, namespace: str, name: str) -> wire.ApplyResponse:
        """Deletes one object."""

    def status(self) -> wire.StatusView:
        """The control plane, its proxies and workloads, and the findings in force."""

    async def workloads(self, known: str, wait: float) -> wire.WorkloadList:
        """The declared workloads; waits up to ``wait`` seconds while the generation is ``known``."""

    def place(self, namespace: str, name: str, placement: wire.PlacementView) -> None:
        """Notes where a workload's sidecar is."""

    def displace(self, namespace: str | None, name: str | None) -> None:
        """Forgets one workload's placement, or all."""

    def join_token(self, namespace: str, name: str) -> wire.JoinToken:
        """A one-time token for one workload's proxy."""

    def check_access(self, question: wire.AccessQuestion) -> wire.AccessAnswer:
        """Who may call whom, by the configuration in force."""

    async def edges(self) -> Sequence[wire.EdgeView]:
        """Who calls whom, from the proxies' own counters. Waits for the proxies' answers."""

    async def changed(self, known: int) -> int | None:
        """Waits until the revision is not ``known``; returns it, or None when there will be no more."""
