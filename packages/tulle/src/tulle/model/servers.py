"""Ports that are closed until something is granted on them (Linkerd's policy), and what holds for other ports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulle.model.access import Clause
from tulle.model.meta import Labels, Meta
from tulle.model.source import SourceRef


class InboundDefault(StrEnum):
    """Who may call where nothing is granted. CLUSTER_*: from the cluster's networks only; AUDIT lets everybody
    through and reports whom it would have refused.
    """

    ALL_UNAUTHENTICATED = "all-unauthenticated"
    ALL_AUTHENTICATED = "all-authenticated"
    CLUSTER_UNAUTHENTICATED = "cluster-unauthenticated"
    CLUSTER_AUTHENTICATED = "cluster-authenticated"
    DENY = "deny"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class NamespaceDefault:
    """What holds for the ports of a namespace's workloads that say nothing themselves; `meta.name` names it."""

    meta: Meta
    inbound: InboundDefault


@dataclass(frozen=True, slots=True)
class ServerPort:
    """Server: the port (by number or name) of the workloads that `selector` selects; `labels` are its own."""

    meta: Meta
    selector: Labels
    port: int | str
    labels: Labels = ()
    default: InboundDefault = InboundDefault.DENY


@dataclass(frozen=True, slots=True)
class CallerSet:
    """MeshTLSAuthentication, NetworkAuthentication: callers that grants refer to; one alternative must hold."""

    meta: Meta
    alternatives: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class ServerRoute:
    """HTTPRoute: the requests (alternatives) of some Servers that a grant may be for."""

    meta: Meta
    servers: tuple[str, ...]
    operations: tuple[Clause, ...]


class GrantKind(StrEnum):
    SERVER = "Server"
    ROUTE = "HTTPRoute"
    NAMESPACE = "Namespace"


@dataclass(frozen=True, slots=True)
class GrantTarget:
    """A Server or route of the grant's namespace by name, Servers by label (`name` None), or all of its Servers."""

    source: SourceRef
    kind: GrantKind
    name: str | None = None
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class CallersRef:
    """A CallerSet by its kind, namespace and name."""

    source: SourceRef
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ServerGrant:
    """ServerAuthorization, AuthorizationPolicy: one of `callers` and all of `requires` must hold."""

    meta: Meta
    target: GrantTarget
    callers: tuple[Clause, ...] = (Clause(),)
    requires: tuple[CallersRef, ...] = ()
