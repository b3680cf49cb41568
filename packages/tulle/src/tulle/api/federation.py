"""The admin API's routes about federation: the mesh's own bundle, and the trust domains whose members are let in."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tulle.api.body import answer, read
from tulle.api.roles import Need, guarded
from tulle.api.wire import Message


class FederationRequest(Message, frozen=True):
    """A trust domain's bundle: a SPIFFE bundle document or PEM, or the https URL that it is fetched from."""

    bundle: str = ""
    url: str = ""


class FederatedView(Message, frozen=True):
    """A trust domain; times in seconds since the epoch. ``expires`` is when its last root does."""

    domain: str
    url: str
    updated: float
    roots: list[str]
    expires: float


class FederationBackend(Protocol):
    """The operations behind the routes. Methods raise `tulle.api.backend.Refused`."""

    def bundle(self) -> str:
        """The mesh's own bundle document."""

    def listed(self) -> list[FederatedView]:
        """The trust domains that are federated."""

    async def add(self, domain: str, request: FederationRequest) -> FederatedView:
        """Adds or replaces one. Waits for its bundle where that is fetched."""

    def remove(self, domain: str) -> None:
        """Ends a federation: members of that domain are let in no more."""


DESCRIPTIONS: tuple[tuple[str, str, str, type | None, Any], ...] = (
    ("get", "/v1/bundle", "The mesh's own trust bundle, as a SPIFFE bundle document", None, None),
    ("get", "/v1/federation", "The trust domains that the mesh is federated with", None, list[FederatedView]),
    ("put", "/v1/federation/{domain}", "Federate with a trust domain", FederationRequest, FederatedView),
    ("delete", "/v1/federation/{domain}", "End a federation", None, None),
)


def routes(backend: FederationBackend) -> list[Route]:
    """The routes for one backend."""

    async def bundle(request: Request) -> Response:
        return Response(backend.bundle(), media_type="application/json")

    async def listed(request: Request) -> Response:
        return answer(backend.listed())

    async def add(request: Request) -> Response:
        return answer(await backend.add(request.path_params["domain"], await read(request, FederationRequest)))

    async def remove(request: Request) -> Response:
        backend.remove(request.path_params["domain"])
        return Response(status_code=204)

    return [
        # What it holds is public, and other meshes fetch it.
        guarded("/v1/bundle", bundle, Need.NOTHING),
        guarded("/v1/federation", listed, Need.VIEW),
        guarded("/v1/federation/{domain}", add, Need.ADMIN, ["PUT"]),
        guarded("/v1/federation/{domain}", remove, Need.ADMIN, ["DELETE"]),
    ]
