"""Istio's networking API: routes, destination policies, entries for what runs elsewhere, gateways."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.istio.conditions import conditions
from tulle.dialects.istio.lower.destination_rule import destination_rule
from tulle.dialects.istio.lower.gateway import gateway
from tulle.dialects.istio.lower.service_entry import service_entry, workload_entry
from tulle.dialects.istio.lower.virtual_service import virtual_service

_GROUP = "networking.istio.io"
_VERSIONS = ("v1", "v1beta1", "v1alpha3")

DIALECT = Dialect(
    "istio",
    (
        KindInfo(_GROUP, "VirtualService", _VERSIONS, "virtualservices", virtual_service, ("vs",)),
        KindInfo(_GROUP, "DestinationRule", _VERSIONS, "destinationrules", destination_rule, ("dr",)),
        KindInfo(_GROUP, "ServiceEntry", _VERSIONS, "serviceentries", service_entry, ("se",)),
        KindInfo(_GROUP, "WorkloadEntry", _VERSIONS, "workloadentries", workload_entry, ("we",)),
        KindInfo(_GROUP, "Gateway", _VERSIONS, "gateways", gateway, ("gw",)),
    ),
    conditions,
)
