"""Which calls would fail first if no certificate were renewed any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tulle.api.wire import EdgeView
from tulle.api.wire_trust import EdgeForecast
from tulle.sources.store_leaves import Leaf

Workload = tuple[str, str]
"""Namespace and name."""


def first_edge(edges: Iterable[EdgeView], leaves: Iterable[Leaf], now: float) -> EdgeForecast | None:
    """Of the edges that have had calls, the one with the first certificate to expire at either end; of several, that
    with most calls. None when no end of any is known: stock Envoy, for one, names services as its destinations.
    """
    ends: dict[Workload, float] = {}
    for leaf in leaves:
        key = (leaf.namespace, leaf.workload)
        ends[key] = min(leaf.expires, ends.get(key, leaf.expires))
    known = [(expires, edge) for edge in edges if (expires := _expiry(edge, ends)) is not None]
    if not known:
        return None
    expires, edge = min(known, key=lambda each: (each[0], -each[1].requests))
    return EdgeForecast(
        source_namespace=edge.source_namespace, source=edge.source, destination_namespace=edge.destination_namespace,
        destination=edge.destination, expires=expires, seconds=expires - now,
    )


def _expiry(edge: EdgeView, ends: Mapping[Workload, float]) -> float | None:
    found = [(edge.source_namespace, edge.source), (edge.destination_namespace, edge.destination)]
    return min((ends[each] for each in found if each in ends), default=None)
