"""The RBAC that is emitted means what the naive evaluator says; a DENY more never allows more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import policy_random
from hypothesis import HealthCheck, example, given, settings
from policy_strategies import AT, CALLS, GUARDS, PORTS, RULES, policy_meta
from rbac_reading import allows, shadow_allows

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
from tulle.policy.decide import decide
from tulle.policy.request import Call, HttpRequest
from tulle.xds.filters.rbac import http_filters, network_filters

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Hypothesis is slow to draw these and good at making what fails small; the bulk comes from a seed."""
SEED, ROUNDS = 4_711, 2_000


def _filters(guard: Guard, call: Call) -> list[dict[str, Any]]:
    if call.http is None:
        return list(network_filters(guard, call.port, "test"))
    return list(http_filters(guard, call.port))


def _drawn(seed: int) -> Iterator[tuple[random.Random, Guard, Call]]:
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        yield rng, policy_random.guard(rng), policy_random.call(rng, rng.choice(PORTS))


def _is_read_alike(guard: Guard, call: Call) -> None:
    decision = decide(guard, call)
    filters = _filters(guard, call)
    assert allows(filters, call) == decision.allowed, (guard, call, decision)
    assert shadow_allows(filters, call) == (not decision.dry_run), (guard, call, decision)


@FEW
@given(GUARDS, CALLS)
def test_emitted_rules_are_the_policies(guard: Guard, call: Call) -> None:
    _is_read_alike(guard, call)


def test_many_emitted_rules_are_the_policies() -> None:
    for _, guard, call in _drawn(SEED):
        _is_read_alike(guard, call)


UNSATISFIABLE = AccessRule(
    AT, when=Clause((Condition(AT, Attribute.REQUEST_PRINCIPAL, (ValueMatch(ValueKind.EXACT, "x"),)),))
)
"""No principal of a token is without a slash."""


@FEW
@example(Guard(PeerMode.PERMISSIVE), UNSATISFIABLE, Call(80, None, HttpRequest()))
@given(GUARDS, RULES, CALLS)
def test_a_deny_more_never_allows_more(guard: Guard, rule: AccessRule, call: Call) -> None:
    _only_takes_away(guard, rule, call)


def test_many_a_deny_more_never_allows_more() -> None:
    for rng, guard, call in _drawn(SEED + 1):
        _only_takes_away(guard, policy_random.rule(rng), call)


def _only_takes_away(guard: Guard, rule: AccessRule, call: Call) -> None:
    more = AccessPolicy(policy_meta(99), AccessAction.DENY, (rule,))
    guarded = replace(guard, access=(*guard.access, more))
    if decide(guarded, call).allowed:
        assert decide(guard, call).allowed
    if allows(_filters(guarded, call), call):
        assert allows(_filters(guard, call), call)


def test_strict_refuses_plaintext_whatever_is_allowed() -> None:
    call = Call(80, None)
    assert decide(Guard(PeerMode.PERMISSIVE), call).allowed
    assert not decide(Guard(PeerMode.STRICT), call).allowed


def test_an_allow_policy_without_rules_refuses_everything() -> None:
    guard = Guard(access=(AccessPolicy(policy_meta(0), AccessAction.ALLOW),))
    decision = decide(guard, Call(80, "cluster.local/ns/a/sa/x"))
    assert not decision.allowed
    assert [str(each) for each in decision.reasons] == ["AuthorizationPolicy a/p0"]
