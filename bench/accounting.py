"""What processes have cost: CPU time of all their threads and children, and resident memory, from /proc."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident and proportional set size in KiB, and what of it is the process's own and in no file."""

    rss: int
    pss: int
    anonymous: int


def family(pid: int) -> list[int]:
    """`pid` and its descendants that live now."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found.extend(int(text) for text in children.read_text().split())
    return found


def cpu_ns(pids: Iterable[int]) -> int:
    """CPU time spent so far by the families of `pids`, in nanoseconds, by the scheduler's own clock."""
    total = 0
    for pid in pids:
        for each in family(pid):
            for thread in Path(f"/proc/{each}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    total += int(thread.read_text().split()[0])
    return total


def memory(pids: Iterable[int]) -> Memory:
    """The memory of the families of `pids` together."""
    total = dict.fromkeys(("Rss:", "Pss:", "Anonymous:"), 0)
    for pid in pids:
        for each in family(pid):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(" ")
                if name in total:
                    total[name] += int(rest.split()[0])
    return Memory(*total.values())
