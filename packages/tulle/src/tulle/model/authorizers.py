"""Servers outside the mesh's own rules that are asked whether a request may pass (Envoy's ext_authz)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tulle.model.source import SourceRef

ANSWER_TIMEOUT = timedelta(seconds=10)
"""How long an authorizer may take, as in Istio."""


@dataclass(frozen=True, slots=True)
class ShownBody:
    """As much of a request's body as the authorizer sees; a longer one is refused unless `partial`."""

    max_bytes: int
    partial: bool = False
    as_bytes: bool = False


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """How an authorizer is asked over HTTP. Header names may begin or end with one `*`."""

    path_prefix: str = ""
    shown_headers: tuple[str, ...] = ()
    added_headers: tuple[tuple[str, str], ...] = ()
    to_upstream: tuple[str, ...] = ()
    to_client_on_refusal: tuple[str, ...] = ()
    to_client_on_success: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Authorizer:
    """An extension provider. `service` is as written (`[NAMESPACE/]HOST`), `host` the linked service or None;
    `http` None asks over gRPC. Without an answer a request is refused with `status`, unless `fail_open`.
    """

    name: str
    source: SourceRef
    service: str
    port: int
    http: HttpCheck | None = None
    timeout: timedelta = ANSWER_TIMEOUT
    fail_open: bool = False
    status: int = 403
    body: ShownBody | None = None
    clear_route_cache: bool = False
    host: str | None = None
