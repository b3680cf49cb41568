"""Endpoints of a cluster, grouped by locality, with what says whether a sidecar answers there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tulle.model.mesh import Endpoint
from tulle.model.meta import label, selects
from tulle.model.policies import Subset
from tulle.protos import message
from tulle.xds import names
from tulle.xds.wire import socket_address, struct, wrapped


def subset_endpoints(endpoints: Iterable[Endpoint], subset: Subset | None) -> tuple[Endpoint, ...]:
    """The endpoints that carry the subset's labels."""
    return tuple(each for each in endpoints if subset is None or selects(subset.labels, each.labels))


def load_assignment(cluster: str, endpoints: Iterable[Endpoint]) -> Any:
    """The ClusterLoadAssignment: localities sorted, each weighted by the sum of its endpoints.

    Endpoints of weight 0 receive nothing and are left out (Envoy has no such weight).
    """
    by_locality: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.weight > 0:
            by_locality.setdefault(endpoint.locality, []).append(endpoint)
    made = message("envoy.config.endpoint.v3.ClusterLoadAssignment")(cluster_name=cluster)
    for locality, group in sorted(by_locality.items()):
        region, zone, sub_zone = (*locality.split("/", 2), "", "")[:3]
        made.endpoints.add(
            locality={"region": region, "zone": zone, "sub_zone": sub_zone},
            load_balancing_weight=wrapped(sum(endpoint.weight for endpoint in group)),
            lb_endpoints=[_lb_endpoint(endpoint) for endpoint in group],
        )
    return made


def _lb_endpoint(endpoint: Endpoint) -> Any:
    made = message("envoy.config.endpoint.v3.LbEndpoint")(
        endpoint={"address": socket_address(endpoint.address, endpoint.port)},
        load_balancing_weight=wrapped(endpoint.weight),
    )
    if endpoint.mtls:
        made.metadata.filter_metadata[names.TRANSPORT_MATCH].CopyFrom(struct({"tlsMode": "istio"}))
    if endpoint.workload:
        made.metadata.filter_metadata["istio"].CopyFrom(struct({"workload": _workload(endpoint)}))
    return made


def _workload(endpoint: Endpoint) -> str:
    """Istio's `name;namespace;canonical service;canonical revision;cluster`."""
    app = label(endpoint.labels, "app") or ""
    version = label(endpoint.labels, "version") or ""
    return f"{endpoint.workload};{endpoint.namespace};{app};{version};Kubernetes"
