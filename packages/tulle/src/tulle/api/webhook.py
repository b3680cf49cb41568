"""The webhook's door: Kubernetes' AdmissionReview in, its verdict out (admission.k8s.io/v1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from tulle.api.authenticate import Entrance
from tulle.api.backend import Refused
from tulle.api.body import answer, content, decode
from tulle.api.caller import CALLER
from tulle.api.roles import Need, guarded
from tulle.api.server import behind_the_door
from tulle.buckets import Buckets

PATH = "/v1/webhook/validate"
ISTIO_PATH = "/validate"
"""Where configurations of Istio's own webhook point to."""

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"

MAX_REVIEW = 4 * 1024 * 1024
"""Largest review read, in bytes: it has two objects, of which Kubernetes stores about 1.5 MiB each at most."""

BODY_SECONDS = 5.0
AT_ONCE = 8
"""How many bodies are held at once; what comes then waits for its turn."""

REVIEWS_PER_SECOND, REVIEWS_IN_A_ROW = 20.0, 400.0
"""By caller: what installs a whole application sends its objects in one go."""

MAX_UID = 256


class _Lenient(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of Kubernetes' own shapes, which grow with its versions."""


class GroupVersionKind(_Lenient, frozen=True):
    """What an object is; the core group is empty."""

    group: str
    version: str
    kind: str


class AdmissionRequest(_Lenient, frozen=True):
    """What Kubernetes is about to do. Objects are JSON text, null where the operation has none."""

    uid: str
    kind: GroupVersionKind
    operation: str
    name: str | None = None
    namespace: str | None = None
    sub_resource: str | None = None
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")


class Cause(_Lenient, frozen=True):
    """One thing that is wrong: a stable name for it, a sentence, the field it is about."""

    reason: str
    message: str
    field: str = ""


class Details(_Lenient, frozen=True):
    """Of which object a refusal is, and each of its causes."""

    name: str
    group: str
    kind: str
    causes: list[Cause]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """meta/v1 Status of a refusal; ``code`` is an HTTP status, ``message`` what the user is told."""

    code: int
    reason: str
    message: str
    details: Details
    status: str = "Failure"


class AdmissionResponse(_Lenient, frozen=True):
    """The verdict on the request with that uid."""

    uid: str
    allowed: bool
    status: Status | None = None
    warnings: list[str] = []


class _Asked(_Lenient, frozen=True):
    api_version: str
    kind: str
    request: msgspec.Raw


class _Answered(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    response: AdmissionResponse
    api_version: str = API_VERSION
    kind: str = KIND


class WebhookBackend(Protocol):
    """What the route asks for."""

    async def review(self, request: AdmissionRequest) -> AdmissionResponse:
        """The verdict; nothing is changed. Raises `Refused` for a request that cannot be. Waits while it thinks."""


@dataclass(slots=True)
class _Turns:
    """Who may come now: callers take turns, and nobody comes too often."""

    clock: Callable[[], float]
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    judging: asyncio.Lock = field(default_factory=asyncio.Lock)
    buckets: Buckets = field(default_factory=lambda: Buckets(REVIEWS_PER_SECOND, REVIEWS_IN_A_ROW))

    def take(self) -> None:
        """Raises `Refused` (429) for a caller that has no review left. Its address does not make it another one."""
        _, _, who = CALLER.get().partition(" ")
        if not self.buckets.take(who, self.clock()):
            raise Refused.because(429, "too-often", "too many reviews: wait")


def build(backend: WebhookBackend, entrance: Entrance, clock: Callable[[], float] = time.monotonic) -> Starlette:
    """The application for one backend and those whom the entrance lets in."""
    turns = _Turns(clock)

    async def validate(request: Request) -> Response:
        turns.take()
        async with turns.reading:
            asked = read_review(await content(request, MAX_REVIEW, BODY_SECONDS))
            async with turns.judging:
                return answer(_Answered(response=await backend.review(asked)))

    routes = [guarded(path, validate, Need.VIEW, ["POST"]) for path in (PATH, ISTIO_PATH)]
    return behind_the_door(routes, entrance)


def read_review(text: bytes) -> AdmissionRequest:
    """The request of an AdmissionReview. Raises `Refused` (400) for anything else."""
    review = decode(text, _Asked)
    if (review.api_version, review.kind) != (API_VERSION, KIND):
        message = f"must be {KIND} of {API_VERSION}, not {review.kind!r:.80} of {review.api_version!r:.80}"
        raise Refused.because(400, "not-a-review", message)
    request = decode(bytes(review.request), AdmissionRequest)
    if not request.uid or len(request.uid) > MAX_UID:
        raise Refused.because(400, "not-a-review", f"request.uid must be a text of 1 to {MAX_UID} characters")
    return request


