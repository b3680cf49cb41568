"""Sidecar: https://istio.io/latest/docs/reference/config/networking/sidecar/."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tulle.dialects.fields import Schema, Unsupported
from tulle.dialects.istio.schema.common import Later
from tulle.dialects.istio.schema.mesh_config import TrafficPolicyMode
from tulle.dialects.istio.schema.service_entry import WorkloadSelector
from tulle.dialects.metadata import Envelope


class EgressListener(Schema):
    """Hosts as `NAMESPACE/HOST`; without `port` for all of the workload's calls."""

    hosts: Annotated[list[str], Field(min_length=1)]
    port: Annotated[Any, Unsupported("declare an upstream of the Workload")] = None
    bind: Annotated[Any, Unsupported("declare an upstream of the Workload")] = None
    capture_mode: Annotated[Any, Later] = None


class SidecarSpec(Schema):
    """What the workloads may call."""

    workload_selector: WorkloadSelector | None = None
    outbound_traffic_policy: TrafficPolicyMode | None = None
    egress: list[EgressListener] | None = None
    ingress: Annotated[Any, Unsupported("the ports of the Workload are listened on")] = None
    inbound_connection_pool: Annotated[Any, Later] = None


class Sidecar(Envelope):
    """networking.istio.io Sidecar."""

    spec: SidecarSpec = SidecarSpec()
