"""The admin API's messages: one class per JSON shape, shared by the server, the CLI and the supervisor."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all messages: immutable, unknown fields refused."""


class Document(Message, frozen=True):
    """One configuration text; ``file`` is the name its positions are reported with."""

    file: str
    text: str


class ApplyRequest(Message, frozen=True):
    """Objects to create or change. With ``dry_run`` everything is checked and nothing is kept."""

    documents: list[Document]
    dry_run: bool = False


class Place(Message, frozen=True):
    """A position in an input; ``line`` and ``column`` count from 1, 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0


class Finding(Message, frozen=True):
    """A diagnostic: ``severity`` is error, warning or info, ``code`` a stable name."""

    severity: str
    code: str
    message: str
    source: Place
    field: str | None = None
    hint: str | None = None
    related: list[Place] = []


class ObjectResult(Message, frozen=True):
    """What became of one applied object: created, configured, unchanged or deleted."""

    api_version: str
    kind: str
    namespace: str
    name: str
    result: str


class ApplyResponse(Message, frozen=True):
    """What an apply did. ``revision`` is the configuration's revision from then on."""

    revision: int
    objects: list[ObjectResult]
    diagnostics: list[Finding]


class Failure(Message, frozen=True):
    """The body of every answer with a status of 400 and above."""

    code: str
    message: str
    diagnostics: list[Finding] = []


class WorkloadPort(Message, frozen=True):
    """A port of the application; ``number`` 0: picked when the workload is started."""

    number: int
    name: str = ""


class UpstreamPort(Message, frozen=True):
    """127.0.0.1:``local_port`` leads to ``port`` of ``service``; 0: picked when the workload is started."""

    service: str
    port: int
    local_port: int


class Readiness(Message, frozen=True):
    """An HTTP probe of the application; ``port`` by number or name, ``period`` in seconds."""

    path: str
    port: int | str
    period: float = 1.0


class WorkloadView(Message, frozen=True):
    """A declared workload: everything that its local processes need to know."""

    namespace: str
    name: str
    service_account: str
    address: str
    labels: dict[str, str] = {}
    ports: list[WorkloadPort] = []
    upstreams: list[UpstreamPort] = []
    command: list[str] | None = None
    env: dict[str, str] = {}
    directory: str | None = None
    readiness: Readiness | None = None
    workload_api: bool = False


class WorkloadList(Message, frozen=True):
    """The workloads that want a local sidecar; ``generation`` differs whenever the list does, across restarts too."""

    generation: str
    workloads: list[WorkloadView]


class InboundPort(Message, frozen=True):
    """The sidecar answers on ``listen`` for the application's port ``app``, called ``name``."""

    app: int
    listen: int
    name: str = ""


class PlacementView(Message, frozen=True):
    """Where the supervisor put a workload's sidecar, and whether its endpoints may get traffic. ``network_namespace``
    is the file of the application's Linux network namespace, empty where that is the machine's.
    """

    outbound: int
    admin: int
    inbound: list[InboundPort] = []
    upstreams: list[UpstreamPort] = []
    ready: bool = False
    pid: int | None = None
    proxy_pid: int | None = None
    network_namespace: str = ""


class PlacedWorkload(Message, frozen=True):
    """A workload with its placement, for `tulle status`, `tulle exec` and the live picture."""

    namespace: str
    name: str
    service_account: str
    address: str
    placement: PlacementView


class JoinToken(Message, frozen=True):
    """A one-time token; ``expires_in`` in seconds."""

    token: str
    expires_in: float


class ControlPlaneView(Message, frozen=True):
    """The control plane itself; ``revision`` counts accepted configurations."""

    pid: int
    version: str
    revision: int
    uptime: float
    api: str
    xds: str
    join: str
    trust_domain: str
    data_dir: str


class NackView(Message, frozen=True):
    """A refused push: which resource type, what the proxy said, seconds since the epoch."""

    type_url: str
    message: str
    at: float


class ProxyView(Message, frozen=True):
    """What one workload's proxy runs: ``version_acknowledged`` is what it runs.

    ``target`` is the version it should run; ``synced`` says whether they are the same; ``pending`` are the resource
    types of which a push awaits its answer. While it is ``draining``, connections that it accepted under an older
    version may still be judged by that, so that it counts as running the newer one afterwards.
    """

    namespace: str
    name: str
    node: str
    connected: bool
    client: str = ""
    version_acknowledged: str | None = None
    target: str | None = None
    synced: bool = False
    acknowledged: dict[str, str] = {}
    pending: list[str] = []
    pushes: int = 0
    draining: bool = False
    last_nack: NackView | None = None


class StatusView(Message, frozen=True):
    """The answer to `tulle status`."""

    control_plane: ControlPlaneView
    proxies: list[ProxyView]
    workloads: list[PlacedWorkload]
    diagnostics: list[Finding]


class EdgeView(Message, frozen=True):
    """The traffic between two workloads since the proxies started; latencies in milliseconds. What the counters do not
    tell is ``unknown``.
    """

    source: str
    destination: str
    service: str
    requests: float
    failures: float
    mtls: float
    buckets: list[tuple[float, float]] = []
    source_namespace: str = "unknown"
    destination_namespace: str = "unknown"


class AccessQuestion(Message, frozen=True):
    """May ``caller`` (`NAMESPACE/ACCOUNT`; none: somebody in plaintext) call workload ``namespace``/``name``?

    ``port`` is the application's; none asks about every port. ``claims`` are those of a verified token.
    """

    namespace: str
    name: str
    caller: str | None = None
    port: int | None = None
    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: dict[str, str] = {}
    claims: dict[str, str | list[str]] | None = None
    source_ip: str = "127.0.0.1"


class AccessReason(Message, frozen=True):
    """A policy and, by index from 0, the rule of it; without one, the policy as a whole."""

    policy: str
    action: str
    source: Place
    rule: int | None = None


class AccessVerdict(Message, frozen=True):
    """The answer for one port. ``mode``: strict, permissive or disable; ``principal``: who the caller is known as;
    ``path``: as the sidecar reads the one that was asked about, where it reads requests.
    """

    port: int
    allowed: bool
    why: str
    mode: str
    principal: str | None = None
    path: str | None = None
    decided_by: list[AccessReason] = []
    audited_by: list[AccessReason] = []
    would_be_denied_by: list[AccessReason] = []
    asks_about_it: list[AccessReason] = []


class AccessAnswer(Message, frozen=True):
    """One verdict for each port."""

    verdicts: list[AccessVerdict]
