"""The picture of a mesh: one row per edge, from two looks at the sidecars' counters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tulle.api.wire import EdgeView
from tulle.status.metrics import quantile

Edges = dict[tuple[str, str, str], EdgeView]


@dataclass(frozen=True, slots=True)
class Row:
    """One edge during an interval: requests per second, share of successes and of mutual TLS, milliseconds."""

    source: str
    destination: str
    rate: float
    success: float
    p50: float | None
    p95: float | None
    p99: float | None
    mtls: float

    def cells(self) -> tuple[str, ...]:
        """The row as it is shown."""
        times = (f"{value:.1f}" if value is not None else "-" for value in (self.p50, self.p95, self.p99))
        ends = (self.source, "→", self.destination)
        return (*ends, f"{self.rate:.1f}", f"{self.success:.1%}", *times, f"{self.mtls:.0%}")


HEADERS = ("FROM", "", "TO", "RPS", "SUCCESS", "P50 ms", "P95 ms", "P99 ms", "mTLS")


def index(edges: Iterable[EdgeView]) -> Edges:
    """Edges by who calls whom for which service."""
    return {(each.source, each.destination, each.service): each for each in edges}


def rows(before: Edges, after: Edges, seconds: float) -> list[Row]:
    """What happened between two looks; edges without requests in between are left out."""
    return [
        row
        for key, edge in sorted(after.items())
        if (row := _row(before.get(key), edge, seconds)) is not None
    ]


def _row(before: EdgeView | None, after: EdgeView, seconds: float) -> Row | None:
    old = before or EdgeView(
        source=after.source, destination=after.destination, service=after.service, requests=0, failures=0, mtls=0
    )
    requests = after.requests - old.requests
    if requests <= 0:
        return None
    known = dict(old.buckets)
    buckets = [(_bound(le), count - known.get(le, 0.0)) for le, count in after.buckets]
    return Row(
        source=after.source,
        destination=after.destination,
        rate=requests / seconds,
        success=1 - (after.failures - old.failures) / requests,
        p50=quantile(buckets, 0.50),
        p95=quantile(buckets, 0.95),
        p99=quantile(buckets, 0.99),
        mtls=max(0.0, min(1.0, (after.mtls - old.mtls) / requests)),
    )


def _bound(le: float) -> float:
    return float("inf") if le >= 1e308 else le


def as_text(found: Sequence[Row], rate: str = "RPS") -> str:
    """The rows as a plain table; ``rate`` names the column of requests during the interval."""
    headers = tuple(rate if header == "RPS" else header for header in HEADERS)
    table = [headers, *(row.cells() for row in found)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADERS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )
