"""Draws the medians as bars: CPU a request, latency and memory, for each peer and number of connections."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import Cell
from bench.settings import Settings

COLOURS = {
    "tulle": "#7c3aed",
    "envoy": "#d946ef",
    "haproxy-h2": "#0284c7",
    "haproxy-h1": "#7dd3fc",
    "nginx": "#16a34a",
    "floor": "#9ca3af",
    "direct": "#d1d5db",
}
PANELS = (
    ("cpu", "CPU of the pair, µs a request", 1.0),
    ("closed_p50", "p50, µs", 1.0),
    ("closed_p99", "p99, µs", 1.0),
    ("rss", "resident memory of a sidecar, MB", 1 / 2048),
)
"""A metric, its title and what its value is multiplied by."""


def draw(cells: dict[Cell, dict[str, float | None]], settings: Settings, target: Path) -> None:
    """Write the plot as SVG to `target`: one row of panels for each variant."""
    rows = len(settings.variants)
    figure = Figure(figsize=(4.2 * len(PANELS), 3.4 * rows))
    axes = figure.subplots(rows, len(PANELS), squeeze=False)
    for row, variant in enumerate(settings.variants):
        for column, (metric, title, factor) in enumerate(PANELS):
            axis = axes[row][column]
            _panel(axis, cells, settings, (variant, metric, factor))
            axis.set_title(f"{title} ({variant})", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(settings.peers), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    with rc_context({"svg.hashsalt": "bench"}):  # The same figures give the same file.
        figure.savefig(target, metadata={"Date": None})


def _panel(
    axis: Axes, cells: dict[Cell, dict[str, float | None]], settings: Settings, what: tuple[str, str, float]
) -> None:
    variant, metric, factor = what
    width = 0.85 / len(settings.peers)
    for number, peer in enumerate(settings.peers):
        values = [
            (cells.get(Cell(variant, peer, many)) or {}).get(metric) or 0 for many in settings.connections
        ]
        places = [group + number * width for group in range(len(settings.connections))]
        axis.bar(places, [value * factor for value in values], width, label=peer, color=COLOURS[peer])
    axis.set_xticks([group + 0.4 for group in range(len(settings.connections))])
    axis.set_xticklabels([f"{many} conn." for many in settings.connections], fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
