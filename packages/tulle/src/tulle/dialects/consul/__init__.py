"""Consul's service-intentions: as configuration entries (HCL, JSON) and as the Kubernetes kind."""

from __future__ import annotations

from tulle.dialects.base import Dialect, KindInfo
from tulle.dialects.consul.conditions import conditions
from tulle.dialects.consul.lower import config_entry, service_intentions

_GROUP = "consul.hashicorp.com"

DIALECT = Dialect(
    "consul",
    (
        KindInfo(_GROUP, "ServiceIntentions", ("v1alpha1",), "serviceintentions", service_intentions),
        KindInfo(
            _GROUP, "service-intentions", ("v1",), "service-intentions", config_entry, in_clusters=False
        ),
    ),
    conditions,
)
