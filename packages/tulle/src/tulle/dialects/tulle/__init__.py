"""Tulle's own few kinds: what no established kind can say."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.tulle import lower
from tulle.dialects.tulle.conditions import conditions
from tulle.dialects.tulle.mesh_settings import mesh_settings
from tulle.dialects.tulle.traffic_policy import traffic_policy

DIALECT = Dialect(
    "tulle",
    (
        KindInfo("tulle.dev", "Workload", ("v1alpha1",), "workloads", lower.workload, ("wl",)),
        KindInfo("tulle.dev", "TrafficPolicy", ("v1alpha1",), "trafficpolicies", traffic_policy, ("tp",)),
        KindInfo("tulle.dev", "MeshSettings", ("v1alpha1",), "meshsettings", mesh_settings, namespaced=False),
    ),
    conditions,
)
