"""Tulle's own extensions of a cluster, as metadata that Envoy carries without looking at it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tulle.model.resilience import Breaker, Fallback, FixedAnswer, LastGood, Resilience
from tulle.protos import message
from tulle.xds import names

NAME = "dev.tulle"
"""The filter name under which the extensions stand."""

Tree = Mapping[str, "str | float | Tree"]


def extend(cluster: Any, resilience: Resilience | None) -> None:
    """Adds what `resilience` says to a Cluster's metadata."""
    if resilience is None or resilience == Resilience():
        return
    cluster.metadata.filter_metadata[NAME].CopyFrom(_struct(_tree(resilience)))


def _tree(said: Resilience) -> Tree:
    made: dict[str, str | float | Tree] = {}
    if said.retry_budget is not None:
        budget = said.retry_budget
        made["retry_budget"] = {"percent": budget.percent, "min_per_second": budget.min_per_second}
    if said.deadline is not None:
        made["deadline"] = {"minimum_ms": _millis(said.deadline.minimum)}
    if said.breaker is not None:
        made["breaker"] = _breaker(said.breaker)
    if said.peak_ewma is not None:
        ewma = said.peak_ewma
        made["peak_ewma"] = {
            "decay_ms": _millis(ewma.decay),
            "default_latency_ms": _millis(ewma.default_latency),
        }
    return made


def _breaker(breaker: Breaker) -> Tree:
    made: dict[str, str | float | Tree] = {
        "consecutive_failures": breaker.consecutive_failures,
        "failure_percent": breaker.failure_percent,
        "minimum_requests": breaker.minimum_requests,
        "window_ms": _millis(breaker.window),
        "open_ms": _millis(breaker.open_for),
        "probes": breaker.probes,
    }
    if breaker.fallback is not None:
        made["fallback"] = _fallback(breaker.fallback)
    return made


def _fallback(fallback: Fallback) -> Tree:
    if isinstance(fallback, FixedAnswer):
        return {"status": fallback.status, "content_type": fallback.content_type, "body": fallback.body}
    if isinstance(fallback, LastGood):
        return {"last_good_ms": _millis(fallback.max_age), "max_body": fallback.max_body}
    return {"cluster": names.outbound_cluster(fallback.host, fallback.port)}


def _millis(span: timedelta) -> float:
    return span / timedelta(milliseconds=1)


def _struct(tree: Tree) -> Any:
    made = message("google.protobuf.Struct")()
    for key in sorted(tree):
        value = tree[key]
        if isinstance(value, str):
            made.fields[key].string_value = value
        elif isinstance(value, (int, float)):
            made.fields[key].number_value = value
        else:
            made.fields[key].struct_value.CopyFrom(_struct(value))
    return made
