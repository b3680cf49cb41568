"""tulle.dev/v1alpha1: a workload that runs on this machine, with its sidecar; settings of the whole mesh."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tulle.dialects.fields import Address, Count, DnsLabel, Duration, Host, Port, Schema, Subdomain
from tulle.dialects.metadata import Envelope
from tulle.objects import show

PickedPort = Annotated[int, Field(ge=0, le=65535)]
"""A port; 0, or left out, is any free one, picked when the workload is started."""


class WorkloadPort(Schema):
    """A port the application listens on; one that is picked (0) needs a name to be referred to by."""

    name: DnsLabel | None = None
    port: PickedPort = 0
    app_protocol: Annotated[str, Field(min_length=1)] | None = None


class Upstream(Schema):
    """``localPort`` of the workload's loopback leads to ``port`` of ``service``."""

    service: Host
    port: Port
    local_port: PickedPort = 0


class HttpGet(Schema):
    """A probe that succeeds on any status from 200 to 399."""

    path: Annotated[str, Field(pattern=r"^/")] = "/"
    port: Port | DnsLabel


class Readiness(Schema):
    """When the workload may receive traffic."""

    http_get: HttpGet
    period: Duration | None = None


class WorkloadSpec(Schema):
    """Without ``command`` the process is the user's to run. ``workloadApi`` gives it the SPIFFE Workload API."""

    service_account: Subdomain = "default"
    ports: list[WorkloadPort] = []
    command: Annotated[list[str], Field(min_length=1)] | None = None
    env: dict[str, str] = {}
    upstreams: list[Upstream] = []
    readiness: Readiness | None = None
    workload_api: bool = False
    address: Address = "127.0.0.1"
    locality: str = ""
    weight: Annotated[Count, Field(ge=1)] = 1


class Workload(Envelope):
    """tulle.dev/v1alpha1 Workload."""

    spec: WorkloadSpec


def _network(text: str) -> str:
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"must be a network such as 127.0.0.0/8, not {show(text)}") from error
    if found.prefixlen == 0:
        raise ValueError("must not be every address: name the networks that are meant")
    return str(found)


class Egress(Schema):
    """Calls to what is not of the mesh. ``allowedAddresses`` are networks that proxies otherwise refuse to call."""

    unknown_hosts: Literal["AllowAny", "RegistryOnly"] | None = None
    allowed_addresses: list[Annotated[str, AfterValidator(_network)]] | None = None


class MeshSettingsSpec(Schema):
    """What is not given stays as other objects say it."""

    egress: Egress = Egress()
    path_normalization: Literal["None", "Base", "MergeSlashes", "DecodeAndMergeSlashes"] | None = None
    trust_domain_aliases: list[Subdomain] | None = None
    default_intention: Literal["Allow", "Deny"] | None = None


class MeshSettings(Envelope):
    """tulle.dev/v1alpha1 MeshSettings; of the whole mesh, without namespace."""

    spec: MeshSettingsSpec
