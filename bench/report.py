"""Boils samples down to medians and paired ratios, and writes them as a table in Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Sample
from bench.settings import Settings

OURS = "tulle"
METRICS = {
    "cpu": "CPU µs/req",
    "per_second": "req/s",
    "closed_p50": "p50 µs",
    "closed_p99": "p99 µs",
    "open_p50": "open p50 µs",
    "open_p99": "open p99 µs",
    "rss_idle": "RSS idle MB",
    "rss": "RSS MB",
    "pss": "PSS MB",
}
"""The columns: a sample's field and its heading. Memory is of one sidecar, half of the pair's."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The rows of one variant, peer and number of connections."""

    variant: str
    peer: str
    connections: int


def medians(samples: Iterable[Sample]) -> dict[Cell, dict[str, float | None]]:
    """The median of each metric over all turns."""
    grouped: dict[Cell, list[Sample]] = {}
    for sample in samples:
        grouped.setdefault(Cell(sample.variant, sample.peer, sample.connections), []).append(sample)
    return {cell: {name: _median(each, name) for name in METRICS} for cell, each in grouped.items()}


def _median(samples: Sequence[Sample], name: str) -> float | None:
    values = [value for sample in samples if (value := getattr(sample, name)) is not None]
    return statistics.median(values) if values else None


def ratios(samples: Sequence[Sample], metric: str) -> dict[Cell, float]:
    """For every other peer: the median over all turns of ours / theirs, each from one and the same turn."""
    ours = {(each.variant, each.round, each.connections): each for each in samples if each.peer == OURS}
    paired: dict[Cell, list[float]] = {}
    for each in samples:
        mine = ours.get((each.variant, each.round, each.connections))
        theirs = getattr(each, metric)
        if mine is not None and each.peer != OURS and theirs:
            paired.setdefault(Cell(each.variant, each.peer, each.connections), []).append(
                getattr(mine, metric) / theirs
            )
    return {cell: statistics.median(values) for cell, values in paired.items()}


def markdown(samples: Sequence[Sample], versions: dict[str, str], settings: Settings) -> str:
    """The whole report."""
    cells, cpu, latency = medians(samples), ratios(samples, "cpu"), ratios(samples, "closed_p50")
    lines = ["# Pairs of sidecars under load", "", *_setting(settings), ""]
    for variant in settings.variants:
        for many in settings.connections:
            lines += [f"## {variant}, {many} connection{'s' if many > 1 else ''}", "", *_head()]
            for peer in settings.peers:
                cell = Cell(variant, peer, many)
                if cell in cells:
                    lines.append(_row(cell, cells[cell], cpu.get(cell), latency.get(cell)))
            lines.append("")
    lines += ["## Versions", "", *(f"- {peer}: {version}" for peer, version in versions.items()), ""]
    return "\n".join(lines)


def _setting(settings: Settings) -> list[str]:
    host = machine()
    return [
        f"{host['cpus']} CPUs ({host['model']}), Linux {host['kernel']}; {settings.rounds} rounds of {settings.turns}"
        f" interleaved turns of {settings.seconds:g} s; responses of {settings.body} bytes; one worker a sidecar;"
        " TLS 1.3 with client certificates between them (not for floor and direct).",
        "",
        f"CPU is of both sidecars together. Open-loop latency is at {settings.rate} requests/s from the intended time"
        " of sending. Memory is of one sidecar. The last columns are medians of tulle's figure divided by the peer's in"
        " the same turn (below 1: tulle is better). *features*: metrics, access log, authorization by identity.",
    ]


def _head() -> list[str]:
    names = ["peer", *METRICS.values(), "tulle/peer CPU", "tulle/peer p50"]
    return ["| " + " | ".join(names) + " |", "|---" + "|---:" * (len(names) - 1) + "|"]


def _row(cell: Cell, values: dict[str, float | None], cpu: float | None, latency: float | None) -> str:
    shown = [cell.peer]
    for name, value in values.items():
        if value is None or (value == 0 and name in {"cpu", "rss", "rss_idle", "pss"}):
            shown.append("–")
        elif name in {"rss", "rss_idle", "pss"}:
            shown.append(f"{value / 2048:.1f}")
        else:
            shown.append(f"{value:.1f}" if name == "cpu" else f"{value:.0f}")
    shown += ["–" if ratio is None else f"{ratio:.2f}" for ratio in (cpu, latency)]
    return "| " + " | ".join(shown) + " |"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {"cpus": os.cpu_count(), "model": model, "kernel": platform.release()}


def document(samples: Sequence[Sample], versions: dict[str, str], settings: Settings) -> str:
    """Everything measured, as JSON."""
    return json.dumps(
        {
            "machine": machine(),
            "settings": {
                name: str(getattr(settings, name)) for name in ("seconds", "rounds", "turns", "rate", "body")
            },
            "versions": versions,
            "samples": [sample.document() for sample in samples],
        },
        indent=1,
    )
