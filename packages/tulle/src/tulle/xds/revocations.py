"""When somebody was revoked, for data planes that drain what they have accepted instead of looking at peers again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tulle.model.mesh import PlacedWorkload
from tulle.model.workloads import WorkloadRef


@dataclass(frozen=True, slots=True)
class Revocations:
    """Times of revocations that one proxy has the list of, in seconds since 1970 (0: never): the last one of anybody,
    the last one of a workload of which it is not known what it served, and by host the last one of a server of it.
    `refused` are those who are revoked now, whether the proxy has the list of them or not.
    """

    anybody: float = 0.0
    unplaced: float = 0.0
    servers: Mapping[str, float] = field(default_factory=dict)
    refused: tuple[WorkloadRef, ...] = ()

    @classmethod
    def known(
        cls, revoked: Mapping[WorkloadRef, float], until: float, workloads: Mapping[WorkloadRef, PlacedWorkload]
    ) -> Revocations:
        """Those up to a time."""
        unplaced, servers = 0.0, dict[str, float]()
        for ref, at in revoked.items():
            if at > until:
                continue
            placed = workloads.get(ref)
            if placed is None:
                unplaced = max(unplaced, at)
                continue
            for host in (host for inbound in placed.inbound for host in inbound.services):
                servers[host] = max(servers.get(host, 0.0), at)
        return cls(until, unplaced, servers)

    def among(self, hosts: Iterable[str]) -> float:
        """When somebody who serves one of these hosts, or may have, was revoked last."""
        return max((self.unplaced, *(self.servers[host] for host in hosts if host in self.servers)))


NOBODY = Revocations()


def drain_before(chains: Iterable[dict[str, Any]], since: float) -> None:
    """Has filter chains differ from what they were before that time: a data plane drains connections of a chain that
    has changed, and only those.
    """
    if since:
        for chain in chains:
            chain["metadata"] = {"filter_metadata": {"tulle": {"fields": {"revoked": {"number_value": since}}}}}
