"""Tokens of the admin API: told once, kept as a hash, gone when revoked or expired, all of it audited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.api.backend import Refused
from tulle.api.roles import Role
from tulle.api.tokens import TokenRequest
from tulle.controlplane.api_tokens import PREFIX, ApiTokens
from tulle.controlplane.audit import Auditor
from tulle.sources.store import Store


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store.db")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(store: Store, clock: Clock) -> ApiTokens:
    return ApiTokens(store.tokens, Auditor(store.ledger, clock), clock)


def test_a_token_works_until_it_expires(tokens: ApiTokens, clock: Clock) -> None:
    made = tokens.create(TokenRequest(name="ci", role="edit", namespaces=["shop"], life=60))
    assert made.token.startswith(PREFIX)
    found = tokens.find(made.token, clock.now)
    assert found is not None
    assert (found.role, found.namespaces) == (Role.EDIT, ("shop",))
    assert tokens.find(made.token + "x", clock.now) is None
    clock.now += 60
    assert tokens.find(made.token, clock.now) is None
    assert tokens.listed() == []


def test_a_revoked_token_is_gone_by_name_and_id(tokens: ApiTokens, clock: Clock) -> None:
    for by in ("name", "id"):
        made = tokens.create(TokenRequest(name="ops", role="admin"))
        tokens.revoke(getattr(made.view, by))
        assert tokens.find(made.token, clock.now) is None
    with pytest.raises(Refused, match="no token"):
        tokens.revoke("ops")


def test_neither_store_nor_audit_holds_a_token(tokens: ApiTokens, store: Store, tmp_path: Path) -> None:
    made = tokens.create(TokenRequest(name="reader", role="view"))
    secret = made.token.removeprefix(PREFIX).encode()
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())


def test_creation_and_revocation_are_audited(tokens: ApiTokens, store: Store) -> None:
    tokens.create(TokenRequest(name="ci", role="edit", namespaces=["shop"]))
    tokens.revoke("ci")
    events = [(each.event, each.subject) for each in reversed(store.ledger.audit_log())]
    assert events == [("api-token-created", "ci"), ("api-token-revoked", "ci")]


@pytest.mark.parametrize(
    "asked",
    [
        TokenRequest(name="", role="view"),
        TokenRequest(name="a b", role="view"),
        TokenRequest(name="a", role="root"),
        TokenRequest(name="a", role="edit"),
        TokenRequest(name="a", role="admin", namespaces=["shop"]),
        TokenRequest(name="a", role="edit", namespaces=["*"]),
        TokenRequest(name="a", role="view", life=0),
        TokenRequest(name="a", role="view", life=float("inf")),
    ],
)
def test_what_makes_no_sense_is_refused(tokens: ApiTokens, asked: TokenRequest) -> None:
    with pytest.raises(Refused) as caught:
        tokens.create(asked)
    assert caught.value.status == 400
    assert tokens.listed() == []


def test_names_are_unique(tokens: ApiTokens) -> None:
    tokens.create(TokenRequest(name="a", role="view"))
    with pytest.raises(Refused, match="already"):
        tokens.create(TokenRequest(name="a", role="view"))
