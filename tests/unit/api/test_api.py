"""The admin API's door: who may come in, what bodies are taken, how refusals look; and its description."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest

from tulle.api import audit, dry_run, federation, mtls, openapi, tokens, wire
from tulle.api.authenticate import Entrance
from tulle.api.backend import Refused
from tulle.api.guard import Headed, refusal
from tulle.api.server import build
from tulle.api.trust import routes


class Backend:
    """Answers what the tests ask for."""

    def __init__(self) -> None:
        self.applied: list[wire.ApplyRequest] = []

    def healthy(self) -> bool:
        return True

    def apply(self, request: wire.ApplyRequest) -> wire.ApplyResponse:
        self.applied.append(request)
        return wire.ApplyResponse(revision=2, objects=[], diagnostics=[])

    def objects(self, kind: str, namespace: str | None, name: str | None) -> list[dict[str, str]]:
        if kind == "nothing":
            raise Refused.because(404, "unknown-kind", "there is no such kind")
        return [] if name == "absent" else [{"kind": kind}]


class NoTokens:
    """Knows none."""

    def find(self, token: str, now: float) -> None:
        return None


OWNER = Entrance(NoTokens(), local_owner=True, user_of=lambda caller, server: os.geteuid())


def client(backend: Backend, entrance: Entrance = OWNER) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=build(backend, entrance))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("127.0.0.1:5", None, True),
        ("localhost:3000", "http://localhost:3000", True),
        ("[::1]:5", "http://[::1]:5", True),
        ("LOCALHOST:3000", "http://localhost:3000", True),
        ("evil.example", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("", None, False),
        ("127.0.0.1:5", "https://evil.example", False),
        ("127.0.0.1:5", "http://127.0.0.1:6", False),
        ("127.0.0.1:5", "https://127.0.0.1:5", False),
        ("127.0.0.1:5", "null", False),
        ("user@evil.example", None, False),
        ("[::1", None, False),
    ],
)
def test_only_loopback_names_and_own_pages_come_in(host: str, origin: str | None, allowed: bool) -> None:
    assert (refusal(Headed(host, origin), "http") is None) == allowed


@pytest.mark.parametrize(("site", "allowed"), [("none", True), ("same-origin", True), ("same-site", False),
                                               ("cross-site", False), ("", False)])
def test_what_another_page_fetches_is_refused(site: str, allowed: bool) -> None:
    assert (refusal(Headed("localhost:5", None, site), "http") is None) == allowed


def test_with_tls_any_name_will_do_but_no_other_page() -> None:
    assert refusal(Headed("mesh.example:8443"), "https") is None
    assert refusal(Headed("mesh.example:8443", "https://mesh.example:8443"), "https") is None
    assert refusal(Headed("mesh.example:8443", "https://evil.example"), "https") is not None


async def test_a_rebound_name_is_refused() -> None:
    async with client(Backend()) as http:
        assert (await http.get("/v1/objects/vs", headers={"host": "evil.example"})).status_code == 403
        assert (await http.get("/v1/objects/vs")).status_code == 200


async def test_a_body_must_be_json_of_the_right_shape() -> None:
    backend = Backend()
    async with client(backend) as http:
        plain = await http.post("/v1/apply", content='{"documents": []}', headers={"content-type": "text/plain"})
        assert plain.status_code == 415, "a web form must not pass for JSON"
        unknown = await http.post("/v1/apply", json={"documents": [], "dryRun": True})
        assert unknown.status_code == 400
        assert "dryRun" in unknown.json()["message"]
        assert (await http.post("/v1/apply", json={"documents": [{"file": 3}]})).status_code == 400
        assert not backend.applied
        assert (await http.post("/v1/apply", json={"documents": []})).json()["revision"] == 2


async def test_refusals_are_json_with_a_code() -> None:
    async with client(Backend()) as http:
        unknown = await http.get("/v1/objects/nothing")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-kind")
        absent = await http.get("/v1/objects/vs/default/absent")
        assert (absent.status_code, absent.json()["code"]) == (404, "not-found")


def test_every_route_is_described() -> None:
    described = openapi.describe()
    backend: Any = Backend()
    more = [*routes(backend), *audit.routes(backend), *mtls.routes(backend), *tokens.routes(backend)]
    more += [*federation.routes(backend), *dry_run.routes(backend)]
    served = {
        (method.lower(), route.path)  # type: ignore[attr-defined]
        for route in build(Backend(), OWNER, more).routes  # type: ignore[arg-type]
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
        if route.path.startswith(("/v1/", "/metrics"))  # type: ignore[attr-defined]
    }
    assert {(method, path) for path, methods in described["paths"].items() for method in methods} == served
    json.dumps(described)
