"""The same policies and calls as policy_strategies.py, from a seed and in bulk: hypothesis takes its time over each."""

from __future__ import annotations

import random
from typing import Any

from policy_strategies import (
    ADDRESSES,
    AT,
    NETWORKS,
    OF_THE_CALL,
    OF_THE_CALLER,
    PATHS,
    PATTERNS,
    PORTS,
    PRINCIPALS,
    TEMPLATES,
    WORDS,
    policy_meta,
)

from tulle.model.access import (
    AccessAction,
    AccessPolicy,
    AccessRule,
    Attribute,
    Clause,
    Condition,
    Guard,
    PeerMode,
    ValueKind,
    ValueMatch,
)
from tulle.policy.request import Call, HttpRequest

_ACTIONS = (AccessAction.DENY, AccessAction.ALLOW, AccessAction.AUDIT)
_PATHS = tuple(path for path in PATHS if "//" not in path)
"""Of a path that servers read in two ways tulle-proxy asks about both, and is stricter than the policies read."""
_TEXTS = ("admin", "admins", "web", "")


def guard(rng: random.Random) -> Guard:
    """Up to three policies for a port that takes plaintext too."""
    policies = tuple(_policy(rng, index) for index in range(rng.randint(0, 3)))
    return Guard(PeerMode.PERMISSIVE, policies)


def rule(rng: random.Random) -> AccessRule:
    return AccessRule(
        AT, _alternatives(rng, OF_THE_CALLER), _alternatives(rng, OF_THE_CALL), _clause(rng, tuple(Attribute))
    )


def call(rng: random.Random, port: int) -> Call:
    return Call(
        port,
        rng.choice((None, *PRINCIPALS, "cluster.local/ns/b/sa/x")),
        None if rng.random() < 0.2 else _request(rng),
        rng.choice(ADDRESSES),
        rng.choice(ADDRESSES),
        rng.choice(ADDRESSES),
        rng.choice(("", "shop", "shop.example")),
    )


def _policy(rng: random.Random, index: int) -> AccessPolicy:
    rules = tuple(rule(rng) for _ in range(rng.randint(0, 2)))
    return AccessPolicy(policy_meta(index), rng.choice(_ACTIONS), rules, dry_run=rng.random() < 0.25)


def _alternatives(rng: random.Random, among: tuple[Attribute, ...]) -> tuple[Clause, ...] | None:
    if rng.random() < 0.5:
        return None
    return tuple(_clause(rng, among) for _ in range(rng.randint(1, 2)))


def _clause(rng: random.Random, among: tuple[Attribute, ...]) -> Clause:
    return Clause(tuple(_condition(rng, among) for _ in range(rng.choice((0, 1, 1, 2)))))


def _condition(rng: random.Random, among: tuple[Attribute, ...]) -> Condition:
    attribute = rng.choice(among)
    values = tuple(_value(rng, attribute) for _ in range(rng.randint(1, 2)))
    key: tuple[str, ...] = ()
    if attribute is Attribute.HEADER:
        key = ("x-a",)
    elif attribute is Attribute.CLAIM:
        key = rng.choice((("role",), ("deep", "role")))
    return Condition(AT, attribute, values, rng.random() < 0.4, key)


def _value(rng: random.Random, attribute: Attribute) -> ValueMatch:
    if attribute in (Attribute.SOURCE_IP, Attribute.REMOTE_IP, Attribute.DESTINATION_IP):
        return ValueMatch(ValueKind.CIDR, rng.choice(NETWORKS))
    if attribute is Attribute.PORT:
        return ValueMatch(ValueKind.EXACT, str(rng.choice(PORTS)))
    if attribute is Attribute.ACCOUNT:
        return ValueMatch(ValueKind.EXACT, rng.choice(("a/x", "ab/x", "b/x")))
    if attribute is Attribute.PATH and rng.random() < 0.4:
        return ValueMatch(ValueKind.TEMPLATE, rng.choice(TEMPLATES))
    kind = rng.choice(PATTERNS)
    return ValueMatch(kind) if kind is ValueKind.PRESENT else ValueMatch(kind, rng.choice(WORDS[attribute]))


def _request(rng: random.Random) -> HttpRequest:
    headers = {"x-a": rng.choice(("1", "12", "2", ""))} if rng.random() < 0.6 else {}
    return HttpRequest(
        rng.choice(("GET", "POST", "PUT")),
        rng.choice(_PATHS),
        rng.choice(("shop", "SHOP", "shop.example", "shop:80")),
        headers,
        None if rng.random() < 0.3 else _claims(rng),
    )


def _claims(rng: random.Random) -> dict[str, Any]:
    choices: dict[str, tuple[Any, ...]] = {
        "iss": ("iss", "http://i", "http:"),
        "sub": ("sub", "s", "/i/s", ""),
        "aud": (*_TEXTS, ["admin", "web"], [], ["webs"]),
        "azp": ("web", "app"),
        "role": (*_TEXTS, ["admin", ""], ["web"], 7),
        "deep": ("flat", *({"role": text} for text in _TEXTS)),
    }
    return {name: rng.choice(values) for name, values in choices.items() if rng.random() < 0.7}
