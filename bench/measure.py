"""Measures one pair at each number of connections: CPU and requests (closed loop), latency (open loop), memory."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import accounting, processes
from bench.peers import PEERS
from bench.peers.pair import Pair, Site
from bench.settings import Settings

SETTLE_S = 0.5
"""From listening to being idle, for every peer."""


class Failed(RuntimeError):
    """Requests failed while measuring, so that the figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. CPU in µs a request of both sidecars together, latencies in µs, memory in KiB of both together.

    `closed_*`: as many requests as go; `open_*`: at the settings' rate, from the intended time (None without a rate).
    """

    variant: str
    peer: str
    round: int
    connections: int
    cpu: float
    per_second: float
    closed_p50: float
    closed_p99: float
    open_p50: float | None
    open_p99: float | None
    rss_idle: int
    rss: int
    pss_idle: int
    pss: int

    def document(self) -> dict[str, Any]:
        """For the results' JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Bench:
    """A run's settings and its folders: the native programs, the certificates, and scratch space for the pairs."""

    settings: Settings
    programs: Path
    certificates: Path
    scratch: Path

    def pair(self, peer: str, variant: str, number: int) -> tuple[Site, Pair]:
        """Configure a pair on fresh ports."""
        folder = self.scratch / f"{variant}-{peer}-{number}"
        folder.mkdir()
        outbound, inbound, origin = processes.free_ports(3)
        site = Site(folder, self.programs, self.certificates, outbound, inbound, origin, variant)
        return site, PEERS[peer](site)

    def samples(self, peer: str, variant: str, number: int) -> list[Sample]:
        """Start a pair, measure it at each number of connections, end it. Raises Failed, DidNotStart, Missing."""
        site, pair = self.pair(peer, variant, number)
        origin = (str(self.programs / "origin"), str(site.origin), str(self.settings.body))
        with (
            processes.started(origin, site.origin, site.folder / "origin.out"),
            processes.sidecars(pair, (site.outbound, site.inbound), site.folder) as pids,
        ):
            time.sleep(SETTLE_S)
            idle = accounting.memory(pids)
            return [
                self._sample((variant, peer, number), pair, pids, idle, many)
                for many in self.settings.connections
            ]

    def _sample(
        self, label: tuple[str, str, int], pair: Pair, pids: list[int], idle: accounting.Memory, many: int
    ) -> Sample:
        settings = self.settings
        processes.load(self.programs, pair.port, many, settings.warm_up, 0)
        before = accounting.cpu_ns(pids)
        closed = processes.load(self.programs, pair.port, many, settings.seconds, 0)
        spent = accounting.cpu_ns(pids) - before
        loaded = accounting.memory(pids)
        opened = (
            processes.load(self.programs, pair.port, many, settings.seconds, settings.rate)
            if settings.rate
            else None
        )
        failures = closed["errors"] + (opened["errors"] if opened else 0)
        if failures or not closed["requests"]:
            raise Failed(f"{label}: {failures} of {closed['requests']} requests failed at {many} connections")
        return Sample(
            *label,
            connections=many,
            cpu=spent / 1000 / closed["requests"],
            per_second=closed["requests"] / closed["seconds"],
            closed_p50=closed["p50"],
            closed_p99=closed["p99"],
            open_p50=opened["p50"] if opened else None,
            open_p99=opened["p99"] if opened else None,
            rss_idle=idle.rss,
            rss=loaded.rss,
            pss_idle=idle.pss,
            pss=loaded.pss,
        )
