"""The admin API's routes about its own tokens: created once in the open, listed without, revoked."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tulle.api.body import answer, read
from tulle.api.roles import Need, guarded
from tulle.api.wire import Message


class TokenRequest(Message, frozen=True):
    """A token to create: its ``name``, ``role`` (view, edit, admin), an editor's namespaces, its life in seconds."""

    name: str
    role: str
    namespaces: list[str] = msgspec.field(default_factory=list)
    life: float | None = None


class TokenView(Message, frozen=True):
    """A token as it is listed; times in seconds since the epoch, None for one that does not expire."""

    id: str
    name: str
    role: str
    namespaces: list[str]
    created: float
    expires: float | None


class NewToken(Message, frozen=True):
    """A token when it is created: the one time that it is told."""

    token: str
    view: TokenView


class TokenBackend(Protocol):
    """The operations behind the routes. Methods raise `tulle.api.backend.Refused`."""

    def create(self, request: TokenRequest) -> NewToken:
        """Makes a token."""

    def listed(self) -> list[TokenView]:
        """Those that are valid."""

    def revoke(self, name: str) -> None:
        """Makes the token of that id or name invalid."""


DESCRIPTIONS: tuple[tuple[str, str, str, type | None, Any], ...] = (
    ("get", "/v1/tokens", "The tokens of this API", None, list[TokenView]),
    ("post", "/v1/tokens", "Create a token", TokenRequest, NewToken),
    ("delete", "/v1/tokens/{token}", "Revoke a token, by id or name", None, None),
)


def routes(backend: TokenBackend) -> list[Route]:
    """The routes for one backend."""

    async def listed(request: Request) -> Response:
        return answer(backend.listed())

    async def create(request: Request) -> Response:
        return answer(backend.create(await read(request, TokenRequest)))

    async def revoke(request: Request) -> Response:
        backend.revoke(request.path_params["token"])
        return Response(status_code=204)

    return [
        guarded("/v1/tokens", listed, Need.ADMIN),
        guarded("/v1/tokens", create, Need.ADMIN, ["POST"]),
        guarded("/v1/tokens/{token}", revoke, Need.ADMIN, ["DELETE"]),
    ]
