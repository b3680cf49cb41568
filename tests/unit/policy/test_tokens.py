"""Where tokens cannot be checked, nothing gets through; no data plane is sent what it would refuse."""

from __future__ import annotations

import pytest
from policy_strategies import AT, policy_meta
from rbac_reading import allows

from tulle.model.access import AccessAction, AccessPolicy, AccessRule, Guard, Issuer, TokenPolicy
from tulle.model.authorizers import Authorizer
from tulle.policy.decide import decide
from tulle.policy.request import Call, HttpRequest
from tulle.xds.client import ClientKind
from tulle.xds.filters.table import inbound

KEYS = Issuer(AT, "https://a", jwks="{}")
NO_KEYS = Issuer(AT, "https://b", jwks_uri="https://keys.example.com/k")
JWT = "envoy.filters.http.jwt_authn"


def _names(guard: Guard) -> list[str]:
    return [each["name"] for each in inbound(guard, 80, ClientKind.SIDECAR)]


def test_tokens_are_checked_first() -> None:
    guard = Guard(tokens=(TokenPolicy(policy_meta(0), (KEYS,)),))
    assert _names(guard)[0] == JWT


def test_without_keys_everything_is_refused() -> None:
    guard = Guard(tokens=(TokenPolicy(policy_meta(0), (KEYS, NO_KEYS)),))
    assert JWT not in _names(guard)
    filters = inbound(guard, 80, ClientKind.SIDECAR)[:-1]
    assert not allows(filters, Call(80, "cluster.local/ns/a/sa/x", HttpRequest()))


def test_without_the_authorizer_everything_is_refused() -> None:
    policy = AccessPolicy(policy_meta(0), AccessAction.CUSTOM, (AccessRule(AT),), provider="gone")
    guard = Guard(access=(policy,))
    call = Call(80, "cluster.local/ns/a/sa/x", HttpRequest())
    assert not allows(inbound(guard, 80, ClientKind.SIDECAR)[:-1], call)
    assert not decide(guard, call).allowed


def test_an_authorizer_is_asked_before_a_deny_and_what_it_allows_is_still_denied() -> None:
    gate = Authorizer("gate", AT, "gate", 80, host="gate.a.svc.cluster.local")
    custom = AccessPolicy(
        policy_meta(0), AccessAction.CUSTOM, (AccessRule(AT),), provider="gate", authorizer=gate
    )
    deny = AccessPolicy(policy_meta(1), AccessAction.DENY, (AccessRule(AT),))
    names = _names(Guard(access=(deny, custom)))
    rbac = "envoy.filters.http.rbac"
    assert names[:3] == [rbac, "envoy.filters.http.ext_authz", rbac]
    call = Call(80, "cluster.local/ns/a/sa/x", HttpRequest())
    assert not decide(Guard(access=(deny, custom)), call).allowed
    decision = decide(Guard(access=(custom,)), call)
    assert (decision.allowed, [str(each) for each in decision.asked]) == (
        True,
        ["AuthorizationPolicy a/p0, rule 0"],
    )
    assert "if gate allows it" in decision.why
    assert not decide(Guard(access=(custom,)), Call(80, "cluster.local/ns/a/sa/x")).allowed


@pytest.mark.parametrize(
    ("user_agent", "kind"),
    [
        ("envoy", ClientKind.ENVOY),
        ("tulle-proxy", ClientKind.SIDECAR),
        ("gRPC C++", ClientKind.GRPC),
        ("", ClientKind.SIDECAR),
    ],
)
def test_the_kind_is_what_a_client_calls_itself(user_agent: str, kind: ClientKind) -> None:
    assert ClientKind.of(user_agent) is kind
