"""The admin API's routes about the audit log."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tulle.api.backend import Refused
from tulle.api.body import answer
from tulle.api.roles import Need, guarded
from tulle.api.wire import Message

DEFAULT_LIMIT = 100


class AuditedEvent(Message, frozen=True):
    """Something that happened: ``at`` in seconds since the epoch, ``origin`` from where, ``hash`` its seal."""

    number: int
    at: float
    event: str
    subject: str
    detail: str
    origin: str
    hash: str


class AuditReport(Message, frozen=True):
    """The last events, newest first, and the log as a whole: its length, its last seal, what is wrong with it."""

    events: list[AuditedEvent]
    entries: int
    head: str
    fault: str | None


class AuditBackend(Protocol):
    """What the routes ask for."""

    def audited(self, limit: int, known: str | None) -> AuditReport:
        """The last events, and whether the log is whole and still has the seal ``known``."""


DESCRIPTIONS: tuple[tuple[str, str, str, type | None, Any], ...] = (
    ("get", "/v1/audit", "The audit log, verified; ?limit=N&known=HASH", None, AuditReport),
)


def routes(backend: AuditBackend) -> list[Route]:
    """The routes for one backend."""

    async def audit(request: Request) -> Response:
        text = request.query_params.get("limit", str(DEFAULT_LIMIT))
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise Refused.because(400, "malformed", f"limit must be a number, not {text!r:.20}")
        return answer(backend.audited(int(text), request.query_params.get("known")))

    return [guarded("/v1/audit", audit, Need.ADMIN)]
