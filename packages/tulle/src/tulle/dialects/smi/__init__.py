"""The Service Mesh Interface: who may call whom (TrafficTarget), shares of traffic (TrafficSplit), route groups."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.smi.access import traffic_target
from tulle.dialects.smi.conditions import conditions
from tulle.dialects.smi.specs import http_route_group, tcp_route
from tulle.dialects.smi.split import traffic_split

_ALPHA_4 = ("v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1")

DIALECT = Dialect(
    "smi",
    (
        KindInfo(
            "access.smi-spec.io", "TrafficTarget", _ALPHA_4[1:], "traffictargets", traffic_target, ("tt",)
        ),
        KindInfo(
            "specs.smi-spec.io", "HTTPRouteGroup", _ALPHA_4, "httproutegroups", http_route_group, ("htr",)
        ),
        KindInfo("specs.smi-spec.io", "TCPRoute", _ALPHA_4, "tcproutes", tcp_route, ("tr",)),
        KindInfo("split.smi-spec.io", "TrafficSplit", _ALPHA_4, "trafficsplits", traffic_split, ("ts",)),
    ),
    conditions,
)
