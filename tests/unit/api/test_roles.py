"""What each role may do, who is let in without a token, and how often strangers may try."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from tulle.api import audit, dry_run, federation, mtls, tokens, trust, webhook
from tulle.api.authenticate import Entrance
from tulle.api.backend import Refused
from tulle.api.caller import CALLER
from tulle.api.roles import (
    ACCESS,
    Access,
    Need,
    Role,
    Stranger,
    guarded,
    reads_secrets,
    require,
    require_edit,
)
from tulle.api.server import build
from tulle.buckets import MOST_KEYS, Buckets

CLIENT, SERVER = ("127.0.0.1", 5), ("127.0.0.1", 1)


class Tokens:
    """Two tokens: `viewer` and `editor`, of namespace shop."""

    def find(self, token: str, now: float) -> Access | None:
        known = {"viewer": Access("viewer", Role.VIEW), "editor": Access("editor", Role.EDIT, ("shop",))}
        return known.get(token)


@contextmanager
def calling(access: Access | Stranger) -> Iterator[None]:
    token = ACCESS.set(access)
    try:
        yield
    finally:
        ACCESS.reset(token)


def status(need: Need, namespace: str = "") -> int:
    try:
        require(need, namespace)
    except Refused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (Access("a", Role.VIEW), {"nothing": 200, "view": 200, "shop": 403, "other": 403, "": 403, "admin": 403}),
        (Access("a", Role.EDIT, ("shop",)),
         {"nothing": 200, "view": 200, "shop": 200, "other": 403, "": 403, "admin": 403}),
        (Access("a", Role.ADMIN), {"nothing": 200, "view": 200, "shop": 200, "other": 200, "": 200, "admin": 200}),
        (Stranger("no"), {"nothing": 200, "view": 401, "shop": 401, "other": 401, "": 401, "admin": 401}),
        (Stranger("no", too_often=True),
         {"nothing": 200, "view": 429, "shop": 429, "other": 429, "": 429, "admin": 429}),
    ],
)
def test_each_role_may_do_what_it_says(access: Access | Stranger, expected: dict[str, int]) -> None:
    with calling(access):
        found = {"nothing": status(Need.NOTHING), "view": status(Need.VIEW), "admin": status(Need.ADMIN)}
        found |= {namespace: status(Need.EDIT, namespace) for namespace in ("shop", "other", "")}
    assert found == expected


def test_an_editor_needs_the_right_to_every_namespace_concerned() -> None:
    with calling(Access("a", Role.EDIT, ("shop", "till"))):
        require_edit(["shop", "till", "shop"])
        with pytest.raises(Refused, match="other"):
            require_edit(["shop", "other"])
        assert reads_secrets("shop")
        assert not reads_secrets("other")
    with calling(Access("a", Role.VIEW)):
        assert not reads_secrets("shop")


@pytest.mark.parametrize(("user", "known"), [(os.geteuid(), True), (0, True), (os.geteuid() + 1, False), (None, False)])
def test_on_loopback_the_owner_and_root_need_no_token(user: int | None, known: bool) -> None:
    entrance = Entrance(Tokens(), local_owner=True, user_of=lambda caller, server: user)
    found = entrance.caller([], CLIENT, SERVER)
    assert isinstance(found, Access) == known
    assert not isinstance(found, Access) or found.role is Role.ADMIN
    beyond = Entrance(Tokens(), own_token="own", user_of=lambda caller, server: user)
    assert isinstance(beyond.caller([], CLIENT, SERVER), Stranger)


@pytest.mark.parametrize("sent", [["Bearer wrong"], ["Bearer "], ["Basic viewer"], ["viewer"], ["Bearer viewer"] * 2])
def test_a_bad_token_is_not_passed_over(sent: list[str]) -> None:
    entrance = Entrance(Tokens(), own_token="own", local_owner=True, user_of=lambda caller, server: os.geteuid())
    assert isinstance(entrance.caller(sent, CLIENT, SERVER), Stranger)


def test_tokens_bring_their_roles() -> None:
    entrance = Entrance(Tokens(), own_token="own")
    owner, editor = (entrance.caller([f"Bearer {token}"], CLIENT, SERVER) for token in ("own", "editor"))
    assert isinstance(owner, Access)
    assert owner.role is Role.ADMIN
    assert editor == Access("127.0.0.1:5 editor", Role.EDIT, ("shop",))
    assert isinstance(Entrance(Tokens()).caller(["Bearer "], CLIENT, SERVER), Stranger), "no own token is no token"


async def test_strangers_are_slowed_down_and_others_are_not() -> None:
    now = 100.0
    entrance = Entrance(Tokens(), failures=Buckets(1, 3), clock=lambda: now)

    async def who(request: Request) -> Response:
        return Response(CALLER.get())

    app = build(object(), entrance, [guarded("/who", who, Need.VIEW)])  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as http:
        answers = [(await http.get("/who")).status_code for _ in range(5)]
        assert answers == [401, 401, 401, 429, 429]
        assert (await http.get("/who", headers={"authorization": "Bearer viewer"})).text.endswith("viewer")
        now = 101.0
        assert [(await http.get("/who")).status_code for _ in range(2)] == [401, 429]


def test_buckets_fill_by_time_and_are_bounded_in_number() -> None:
    buckets = Buckets(rate=2, burst=4)
    assert [buckets.take("a", 0.0) for _ in range(5)] == [True] * 4 + [False]
    assert not buckets.take("a", 0.4)
    assert buckets.take("a", 0.5)
    assert not buckets.take("a", -1000.0), "a clock set back gives nothing"
    assert buckets.take("b", 0.5)
    for number in range(MOST_KEYS + 10):
        buckets.take(str(number), 1.0)
    assert len(buckets._left) <= MOST_KEYS


def test_a_verified_certificate_may_read_and_is_no_excuse_for_a_bad_token() -> None:
    entrance = Entrance(Tokens())
    found = entrance.caller([], CLIENT, SERVER, "CN=kube-apiserver")
    assert found == Access("127.0.0.1:5 certificate CN=kube-apiserver", Role.VIEW)
    assert isinstance(entrance.caller(["Bearer wrong"], CLIENT, SERVER, "CN=kube-apiserver"), Stranger)


def test_every_route_of_the_webhook_asks_who_it_is() -> None:
    backend: Any = object()
    for route in webhook.build(backend, Entrance(Tokens())).routes:
        asks = route.endpoint.__closure__  # type: ignore[attr-defined]
        assert [cell.cell_contents for cell in asks if isinstance(cell.cell_contents, Need)] == [Need.VIEW]


def test_no_route_of_the_api_is_without_its_need() -> None:
    backend: Any = object()
    more = [
        route
        for part in (audit, dry_run, federation, mtls, tokens, trust)
        for route in part.routes(backend)  # type: ignore[attr-defined]
    ]
    open_to_all = set()
    for route in build(backend, Entrance(Tokens()), more).routes:
        asks = route.endpoint.__closure__
        needs = [cell.cell_contents for cell in asks or () if isinstance(cell.cell_contents, Need)]
        assert len(needs) == 1, f"{route} is not guarded"
        if needs == [Need.NOTHING]:
            open_to_all.add(route.path)
    assert open_to_all == {"/healthz", "/openapi.json", "/v1/bundle"}
