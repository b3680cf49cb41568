"""Measures one pair at each number of connections: CPU and requests (closed loop), latency (open loop), memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
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
class Started:
    """A pair that runs, and the processes of both sidecars."""

    pair: Pair
    pids: list[int]


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

    def round(self, variant: str, number: int) -> Iterator[Sample]:
        """Start every peer's pair, measure them in turns at each number of connections, end them.

        What is compared is measured within seconds: a busy neighbour of this machine stays longer than a turn. Pairs
        whose turn it is not are idle. Raises Failed, DidNotStart, Missing.
        """
        with ExitStack() as running:
            pairs = {peer: self._start(running, peer, variant, number) for peer in self.settings.peers}
            time.sleep(SETTLE_S)
            idle = {peer: accounting.memory(started.pids) for peer, started in pairs.items()}
            for many in self.settings.connections:
                for turn in range(self.settings.turns):
                    for peer, started in pairs.items():
                        label = (variant, peer, (number - 1) * self.settings.turns + turn + 1)
                        yield self._sample(label, started, idle[peer], many)

    def _start(self, running: ExitStack, peer: str, variant: str, number: int) -> Started:
        site, pair = self.pair(peer, variant, number)
        origin = (str(self.programs / "origin"), str(site.origin), str(self.settings.body))
        running.enter_context(processes.started(origin, site.origin, site.folder / "origin.out"))
        ports = (site.outbound, site.inbound)
        return Started(pair, running.enter_context(processes.sidecars(pair, ports, site.folder)))

    def _sample(self, label: tuple[str, str, int], started: Started, idle: accounting.Memory, many: int) -> Sample:
        settings, (pair, pids) = self.settings, (started.pair, started.pids)
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
