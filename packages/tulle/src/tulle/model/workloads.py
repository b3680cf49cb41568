"""Workloads (running instances), where their sidecars listen, and the processes behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tulle.model.meta import Labels, Meta
from tulle.model.servers import InboundDefault
from tulle.model.source import SourceRef


class SidecarMode(StrEnum):
    """NONE: plaintext straight to the app. MANAGED: a sidecar that takes its configuration here (its inbound
    ports come with a `Placement`). REMOTE: a sidecar elsewhere that answers mTLS on the declared ports.
    """

    NONE = "none"
    MANAGED = "managed"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class WorkloadPort:
    """A port the application listens on; `name` is what a service's targetPort may refer to.

    `number` 0: picked when the workload is started; the `Placement` then says it, by name.
    """

    number: int
    name: str = ""
    app_protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """127.0.0.1:`local_port` of the workload leads to `port` of `service` (a host as written).

    `local_port` 0: picked when the workload is started; the `Placement` then says it.
    """

    source: SourceRef
    service: str
    port: int
    local_port: int


@dataclass(frozen=True, slots=True)
class Workload:
    """One running instance: Tulle's Workload, Istio's WorkloadEntry, a pod.

    `locality` is `region/zone/subzone`; `weight` is relative to the other endpoints of a service; `default_inbound`
    says who may call ports for which there is no Server, None what the namespace says.
    """

    meta: Meta
    labels: Labels
    address: str
    ports: tuple[WorkloadPort, ...] = ()
    service_account: str = "default"
    upstreams: tuple[Upstream, ...] = ()
    sidecar: SidecarMode = SidecarMode.MANAGED
    locality: str = ""
    network: str = ""
    weight: int = 1
    ready: bool = True
    default_inbound: InboundDefault | None = None


@dataclass(frozen=True, slots=True)
class WorkloadRef:
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class InboundPort:
    """The sidecar listens on `listen` for what is meant for the application's port `app`, called `name`."""

    app: int
    listen: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class UpstreamPort:
    """The local port picked for the upstream declared with this `service` (as written) and `port`."""

    service: str
    port: int
    local: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The ports of one workload's sidecar, chosen by whoever starts it.

    `network_namespace` is the file of the Linux network namespace that the application is in, empty for that of the
    sidecar. Whatever the application dials listens there; `inbound` is the sidecar's own.
    """

    workload: WorkloadRef
    outbound: int
    admin: int
    inbound: tuple[InboundPort, ...] = ()
    upstreams: tuple[UpstreamPort, ...] = ()
    network_namespace: str = ""


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """A GET that must answer 200 to 399; `port` by number or by the workload port's name."""

    path: str
    port: int | str


@dataclass(frozen=True, slots=True)
class Process:
    """How to run a workload locally; nothing the data plane needs. `command` None: the process is the user's.

    `directory` is the folder to run in (the declaring file's); `env` are pairs sorted by name; `workload_api`: it gets
    the SPIFFE Workload API.
    """

    meta: Meta
    workload: WorkloadRef
    command: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    directory: str | None = None
    readiness: HttpProbe | None = None
    readiness_period: timedelta = timedelta(seconds=1)
    workload_api: bool = False
