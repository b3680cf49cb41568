"""Tulle's own few kinds: what no established kind can say."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.tulle import lower
from tulle.dialects.tulle.conditions import conditions

DIALECT = Dialect(
    "tulle",
    (KindInfo("tulle.dev", "Workload", ("v1alpha1",), "workloads", lower.workload, ("wl",)),),
    conditions,
)
