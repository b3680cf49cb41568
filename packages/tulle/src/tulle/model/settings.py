"""Settings of the mesh as a whole, as they hold and as single objects say them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulle.model.authorizers import Authorizer
from tulle.model.intentions import DefaultIntention
from tulle.model.meta import Labels, Meta
from tulle.model.routes import Percent
from tulle.model.source import SourceRef

ONE_PERCENT = Percent(10_000)


class LogEncoding(StrEnum):
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class AccessLog:
    """`format` None is Istio's default for the encoding; `path` None switches the log off."""

    path: str | None = "/dev/stdout"
    encoding: LogEncoding = LogEncoding.TEXT
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Tracing:
    """`sampling` decides for requests that arrive without a decision; `zipkin` is a host:port."""

    sampling: Percent = ONE_PERCENT
    zipkin: str | None = None


class OutboundPolicy(StrEnum):
    """What becomes of calls to hosts that nobody declared."""

    ALLOW_ANY = "allow-any"
    REGISTRY_ONLY = "registry-only"


class PathNormalization(StrEnum):
    """Istio's levels. BASE resolves dot segments; each later one does more."""

    NONE = "none"
    BASE = "base"
    MERGE_SLASHES = "merge-slashes"
    DECODE_AND_MERGE_SLASHES = "decode-and-merge-slashes"


class TlsVersion(StrEnum):
    V1_2 = "1.2"
    V1_3 = "1.3"


@dataclass(frozen=True, slots=True)
class TlsDefaults:
    """TLS towards servers outside the mesh; the mesh's own is TLS 1.3 whatever is said here.

    `minimum` None is 1.2; empty lists are the data plane's own. `curves` are in the order of preference.
    """

    minimum: TlsVersion | None = None
    ciphers: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """`root_namespace` holds the policies of the whole mesh. `trust_domain_aliases` are names that its identities
    had or will have; `federated_domains` are other meshes', whose own roots vouch for them. `allowed_addresses`
    (networks) may be called although proxies refuse such addresses. `mesh_curves` are the key exchanges of mutual TLS
    inside the mesh, preferred first; none: the data plane's own.
    """

    trust_domain: str = "cluster.local"
    domain: str = "cluster.local"
    root_namespace: str = "istio-system"
    access_log: AccessLog = AccessLog()
    tracing: Tracing = Tracing()
    trust_domain_aliases: tuple[str, ...] = ()
    federated_domains: tuple[str, ...] = ()
    outbound: OutboundPolicy = OutboundPolicy.REGISTRY_ONLY
    path_normalization: PathNormalization = PathNormalization.BASE
    tls: TlsDefaults = TlsDefaults()
    mesh_curves: tuple[str, ...] = ()
    auto_mtls: bool = True
    allowed_addresses: tuple[str, ...] = ()
    default_intention: DefaultIntention | None = None
    authorizers: tuple[Authorizer, ...] = ()

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """Every trust domain whose identities are the mesh's own."""
        return (self.trust_domain, *self.trust_domain_aliases)

    @property
    def peer_domains(self) -> tuple[str, ...]:
        """Every trust domain whose members are known here, if by the right roots."""
        return (*self.trust_domains, *self.federated_domains)


@dataclass(frozen=True, slots=True)
class SettingsPatch:
    """What one object says about the whole mesh; None says nothing. `places` are by field."""

    meta: Meta
    trust_domain: str | None = None
    root_namespace: str | None = None
    log_path: str | None = None
    log_encoding: LogEncoding | None = None
    log_format: str | None = None
    sampling: Percent | None = None
    trust_domain_aliases: tuple[str, ...] | None = None
    outbound: OutboundPolicy | None = None
    path_normalization: PathNormalization | None = None
    tls_minimum: TlsVersion | None = None
    tls_ciphers: tuple[str, ...] | None = None
    tls_curves: tuple[str, ...] | None = None
    mesh_curves: tuple[str, ...] | None = None
    auto_mtls: bool | None = None
    allowed_addresses: tuple[str, ...] | None = None
    default_intention: DefaultIntention | None = None
    authorizers: tuple[Authorizer, ...] | None = None
    places: tuple[tuple[str, SourceRef], ...] = ()

    def place(self, field: str) -> SourceRef:
        """Where a field was written."""
        return dict(self.places).get(field, self.meta.source)


@dataclass(frozen=True, slots=True)
class ReachableHosts:
    """Hosts of a namespace (`*`: of any one) that callers may see: exact, `*.suffix` or `*`."""

    namespace: str
    host: str


@dataclass(frozen=True, slots=True)
class CallerPolicy:
    """What workloads of one namespace may call (Istio's Sidecar); None leaves it to the mesh.

    Without `selector` it is for the whole namespace, in the root namespace for every one.
    """

    meta: Meta
    selector: Labels = ()
    outbound: OutboundPolicy | None = None
    reachable: tuple[ReachableHosts, ...] | None = None
