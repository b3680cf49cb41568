"""The RBAC that is emitted means what the naive evaluator says; a DENY more never allows more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from policy_strategies import AT, CALLS, GUARDS, RULES, policy_meta
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

MANY = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _filters(guard: Guard, call: Call) -> list[dict[str, Any]]:
    if call.http is None:
        return list(network_filters(guard, call.port, "test"))
    return list(http_filters(guard, call.port))


@MANY
@given(GUARDS, CALLS)
def test_emitted_rules_are_the_policies(guard: Guard, call: Call) -> None:
    decision = decide(guard, call)
    filters = _filters(guard, call)
    assert allows(filters, call) == decision.allowed, decision
    assert shadow_allows(filters, call) == (not decision.dry_run), decision


UNSATISFIABLE = AccessRule(
    AT, when=Clause((Condition(AT, Attribute.REQUEST_PRINCIPAL, (ValueMatch(ValueKind.EXACT, "x"),)),))
)
"""No principal of a token is without a slash."""


@MANY
@example(Guard(PeerMode.PERMISSIVE), UNSATISFIABLE, Call(80, None, HttpRequest()))
@given(GUARDS, RULES, CALLS)
def test_a_deny_more_never_allows_more(guard: Guard, rule: AccessRule, call: Call) -> None:
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
