"""Settings of the mesh as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulle.model.routes import Percent

ONE_PERCENT = Percent(10_000)


class OutboundPolicy(StrEnum):
    """What happens to requests for hosts nobody declared."""

    ALLOW_ANY = "allow-any"
    REGISTRY_ONLY = "registry-only"


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


@dataclass(frozen=True, slots=True)
class MeshSettings:
    trust_domain: str = "cluster.local"
    domain: str = "cluster.local"
    mesh_id: str = "cluster.local"
    cluster: str = "Kubernetes"
    root_namespace: str = "istio-system"
    outbound: OutboundPolicy = OutboundPolicy.REGISTRY_ONLY
    access_log: AccessLog = AccessLog()
    tracing: Tracing = Tracing()
