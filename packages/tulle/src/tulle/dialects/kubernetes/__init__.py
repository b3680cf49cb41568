"""Kubernetes core: the services that are called, what they select, and endpoints given by hand."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.kubernetes import lower
from tulle.dialects.kubernetes.conditions import conditions

DIALECT = Dialect(
    "kubernetes",
    (
        KindInfo("", "Service", ("v1",), "services", lower.service, ("svc",)),
        KindInfo("", "ServiceAccount", ("v1",), "serviceaccounts", lower.service_account, ("sa",)),
        KindInfo("", "Namespace", ("v1",), "namespaces", lower.namespace, ("ns",), namespaced=False),
        KindInfo("", "Endpoints", ("v1",), "endpoints", lower.endpoints, ("ep",)),
        KindInfo(
            "discovery.k8s.io", "EndpointSlice", ("v1",), "endpointslices", lower.endpoint_slice, ("eps",)
        ),
    ),
    conditions,
)
