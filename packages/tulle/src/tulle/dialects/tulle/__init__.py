"""Tulle's own few kinds: what no established kind can say."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.tulle import lower
from tulle.dialects.tulle.conditions import conditions
from tulle.dialects.tulle.mesh_settings import mesh_settings

DIALECT = Dialect(
    "tulle",
    (
        KindInfo("tulle.dev", "Workload", ("v1alpha1",), "workloads", lower.workload, ("wl",)),
        KindInfo("tulle.dev", "MeshSettings", ("v1alpha1",), "meshsettings", mesh_settings, namespaced=False),
    ),
    conditions,
)
