"""tulle.dev/v1alpha1: a workload that runs on this machine, with its sidecar."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tulle.dialects.fields import Address, Count, DnsLabel, Duration, Host, Port, Schema, Subdomain
from tulle.dialects.metadata import Envelope

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
    """Without ``command`` the process is the user's to run."""

    service_account: Subdomain = "default"
    ports: list[WorkloadPort] = []
    command: Annotated[list[str], Field(min_length=1)] | None = None
    env: dict[str, str] = {}
    upstreams: list[Upstream] = []
    readiness: Readiness | None = None
    address: Address = "127.0.0.1"
    locality: str = ""
    weight: Annotated[Count, Field(ge=1)] = 1


class Workload(Envelope):
    """tulle.dev/v1alpha1 Workload."""

    spec: WorkloadSpec
