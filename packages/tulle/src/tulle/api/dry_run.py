"""The admin API's route about policies that are tried out: what they would have denied."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tulle.api.body import answer
from tulle.api.roles import Need, guarded
from tulle.api.wire import Message, Place


class DryRunPolicy(Message, frozen=True):
    """A policy with the annotation `istio.io/dry-run`, and where it is."""

    policy: str
    source: Place


class DryRunOutcome(Message, frozen=True):
    """Of ``calls`` to a workload (requests, or TCP connections where no requests are read) since its sidecar started,
    how many ``policies`` would have denied. Those of action allow decide together: what none of them names is denied.
    """

    namespace: str
    workload: str
    action: str
    policies: list[DryRunPolicy]
    denied: float
    calls: float


class DryRunReport(Message, frozen=True):
    """``silent`` are sidecars that did not answer."""

    outcomes: list[DryRunOutcome]
    silent: list[str]


class DryRunBackend(Protocol):
    """What the route asks for."""

    async def dry_run(self) -> DryRunReport:
        """Asks every sidecar that tries a policy out for its counters."""


DESCRIPTIONS: tuple[tuple[str, str, str, type | None, Any], ...] = (
    ("get", "/v1/access/dry-run", "What policies that are tried out would have denied", None, DryRunReport),
)


def routes(backend: DryRunBackend) -> list[Route]:
    """The routes for one backend."""

    async def dry_run(request: Request) -> Response:
        return answer(await backend.dry_run())

    return [guarded("/v1/access/dry-run", dry_run, Need.VIEW)]
