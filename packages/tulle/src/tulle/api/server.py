"""The admin API's routes: HTTP in, one backend call, JSON out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tulle.api import openapi, wire
from tulle.api.authenticate import Authenticate, Entrance
from tulle.api.backend import Backend, Refused
from tulle.api.body import answer, read
from tulle.api.guard import NoForeignPages
from tulle.api.roles import Need, guarded

LONGEST_WAIT = 60.0


def build(backend: Backend, entrance: Entrance, more: Sequence[Route] = ()) -> Starlette:
    """The application for one backend and those whom the entrance lets in, with more routes than its own."""
    api = _Api(backend)
    an_object, a_placement = "/v1/objects/{kind}/{namespace}/{name}", "/v1/workloads/{namespace}/{name}/placement"
    routes = [
        guarded("/healthz", api.health, Need.NOTHING),
        guarded("/openapi.json", api.description, Need.NOTHING),
        # The namespaces are those of the objects in the body: the backend asks for the right to each.
        guarded("/v1/apply", api.apply, Need.VIEW, ["POST"]),
        guarded("/v1/objects/{kind}", api.list_objects, Need.VIEW),
        guarded(an_object, api.get_object, Need.VIEW),
        guarded(an_object, api.delete_object, Need.EDIT, ["DELETE"]),
        guarded("/v1/status", api.status, Need.VIEW),
        guarded("/v1/proxies", api.proxies, Need.VIEW),
        guarded("/v1/diagnostics", api.diagnostics, Need.VIEW),
        guarded("/v1/edges", api.edges, Need.VIEW),
        guarded("/v1/access/check", api.check_access, Need.VIEW, ["POST"]),
        guarded("/v1/watch", api.watch, Need.VIEW),
        guarded("/v1/workloads", api.workloads, Need.VIEW),
        guarded(a_placement, api.place, Need.EDIT, ["PUT"]),
        guarded(a_placement, api.displace, Need.EDIT, ["DELETE"]),
        guarded("/v1/workloads/{namespace}/{name}/join-token", api.join_token, Need.EDIT, ["POST"]),
        guarded("/v1/placements", api.displace_all, Need.ADMIN, ["DELETE"]),
        *more,
    ]
    return behind_the_door(routes, entrance)


def behind_the_door(routes: Sequence[Route], entrance: Entrance) -> Starlette:
    """An application of these routes that keeps foreign pages out, knows its callers, and refuses in JSON."""
    handlers: dict[Any, Any] = {Refused: _refused, ClientDisconnect: _gone}
    door = [Middleware(NoForeignPages), Middleware(Authenticate, entrance)]
    return Starlette(routes=routes, middleware=door, exception_handlers=handlers)


class _Api:
    """One method per route."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    async def health(self, request: Request) -> Response:
        return Response("ok\n" if self.backend.healthy() else "not yet\n", 200 if self.backend.healthy() else 503)

    async def description(self, request: Request) -> Response:
        return JSONResponse(openapi.describe())

    async def apply(self, request: Request) -> Response:
        return answer(self.backend.apply(await read(request, wire.ApplyRequest)))

    async def list_objects(self, request: Request) -> Response:
        namespace = request.query_params.get("namespace")
        return answer(self.backend.objects(request.path_params["kind"], namespace, None))

    async def get_object(self, request: Request) -> Response:
        kind, namespace, name = (request.path_params[key] for key in ("kind", "namespace", "name"))
        found = self.backend.objects(kind, namespace, name)
        if not found:
            raise Refused.because(404, "not-found", f"there is no {kind} {namespace}/{name}")
        return answer(found[0])

    async def delete_object(self, request: Request) -> Response:
        return answer(self.backend.delete(*(request.path_params[key] for key in ("kind", "namespace", "name"))))

    async def status(self, request: Request) -> Response:
        return answer(self.backend.status())

    async def proxies(self, request: Request) -> Response:
        return answer(self.backend.status().proxies)

    async def diagnostics(self, request: Request) -> Response:
        return answer(self.backend.status().diagnostics)

    async def edges(self, request: Request) -> Response:
        return answer(await self.backend.edges())

    async def check_access(self, request: Request) -> Response:
        return answer(self.backend.check_access(await read(request, wire.AccessQuestion)))

    async def watch(self, request: Request) -> Response:
        return StreamingResponse(self._revisions(), media_type="text/event-stream")

    async def _revisions(self) -> AsyncIterator[str]:
        known = -1
        while (revision := await self.backend.changed(known)) is not None:
            known = revision
            yield f"event: revision\ndata: {json.dumps({'revision': revision})}\n\n"

    async def workloads(self, request: Request) -> Response:
        wait = _seconds(request.query_params.get("wait", "0"))
        return answer(await self.backend.workloads(request.query_params.get("known", ""), wait))

    async def place(self, request: Request) -> Response:
        placement = await read(request, wire.PlacementView)
        self.backend.place(request.path_params["namespace"], request.path_params["name"], placement)
        return Response(status_code=204)

    async def displace(self, request: Request) -> Response:
        self.backend.displace(request.path_params["namespace"], request.path_params["name"])
        return Response(status_code=204)

    async def displace_all(self, request: Request) -> Response:
        self.backend.displace(None, None)
        return Response(status_code=204)

    async def join_token(self, request: Request) -> Response:
        return answer(self.backend.join_token(request.path_params["namespace"], request.path_params["name"]))


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), LONGEST_WAIT)
    except ValueError:
        raise Refused.because(400, "malformed", f"wait must be a number of seconds, not {text!r:.20}") from None


async def _refused(request: Request, error: Refused) -> Response:
    headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(error.status)
    return Response(msgspec.json.encode(error.failure), error.status, headers, media_type="application/json")


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    """Nobody is there any more who could read this."""
    return Response(status_code=400)
