"""Settings of the mesh as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulle.model.routes import Percent

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


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """`root_namespace` holds the policies of the whole mesh. Hosts that nobody declared are answered 502."""

    trust_domain: str = "cluster.local"
    domain: str = "cluster.local"
    root_namespace: str = "istio-system"
    access_log: AccessLog = AccessLog()
    tracing: Tracing = Tracing()
