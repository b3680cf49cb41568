"""The admin API's route about mutual TLS: which calls still come in plaintext, and what stands before STRICT."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tulle.api.body import answer
from tulle.api.roles import Need, guarded
from tulle.api.wire import Message, Place


class MtlsEdge(Message, frozen=True):
    """What one workload took from one caller (``unknown``: without identity), since its sidecar started. Counts are of
    requests, and of TCP connections where no requests are read.
    """

    source_namespace: str
    source: str
    namespace: str
    destination: str
    mutual_tls: float
    plaintext: float


class MtlsPort(Message, frozen=True):
    """Which connections an application port takes, and where that is said (nowhere: STRICT is the default)."""

    namespace: str
    workload: str
    port: int
    mode: str
    said: Place | None


class MtlsWorkload(Message, frozen=True):
    """A workload of which some port takes plaintext, whether it could take mutual TLS only, and what to do."""

    namespace: str
    workload: str
    mutual_tls: float
    plaintext: float
    ready: bool
    advice: str


class MtlsReport(Message, frozen=True):
    """``edges`` are those that had calls in plaintext; ``silent`` are sidecars that did not answer."""

    edges: list[MtlsEdge]
    ports: list[MtlsPort]
    workloads: list[MtlsWorkload]
    silent: list[str]


class MtlsBackend(Protocol):
    """What the route asks for."""

    async def mtls(self) -> MtlsReport:
        """Asks every sidecar for its counters."""


DESCRIPTIONS: tuple[tuple[str, str, str, type | None, Any], ...] = (
    ("get", "/v1/mtls", "What still comes in plaintext, and what stands before STRICT", None, MtlsReport),
)


def routes(backend: MtlsBackend) -> list[Route]:
    """The routes for one backend."""

    async def mtls(request: Request) -> Response:
        return answer(await backend.mtls())

    return [guarded("/v1/mtls", mtls, Need.VIEW)]
