"""ServiceEntry and WorkloadEntry: https://istio.io/latest/docs/reference/config/networking/service-entry/."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tulle.dialects.fields import Address, Count, Host, Port, Schema, Subdomain
from tulle.dialects.istio.schema.common import ExportTo
from tulle.dialects.istio.vocabulary import check_protocol
from tulle.dialects.metadata import Envelope


class ServicePort(Schema):
    """``protocol`` is one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS; left out it is detected."""

    number: Port
    name: Annotated[str, Field(min_length=1, max_length=63)]
    protocol: Annotated[str, AfterValidator(check_protocol)] = ""
    target_port: Port | None = None


class WorkloadEntrySpec(Schema):
    """An endpoint: a machine or process outside the platform."""

    address: Address | None = None
    ports: dict[str, Port] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: Count | None = None
    service_account: Subdomain | None = None


class WorkloadSelector(Schema):
    """Workloads by label."""

    labels: dict[str, str] = {}


class ServiceEntrySpec(Schema):
    """A service that no other source declares."""

    hosts: Annotated[list[Host], Field(min_length=1)]
    addresses: list[str] = []
    ports: list[ServicePort] = []
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: list[WorkloadEntrySpec] = []
    workload_selector: WorkloadSelector | None = None
    export_to: ExportTo = []
    subject_alt_names: list[str] = []


class ServiceEntry(Envelope):
    """networking.istio.io ServiceEntry."""

    spec: ServiceEntrySpec


class WorkloadEntry(Envelope):
    """networking.istio.io WorkloadEntry."""

    spec: WorkloadEntrySpec
