"""Where tokens cannot be checked, nothing gets through; no data plane is sent what it would refuse."""

from __future__ import annotations

import pytest
from policy_strategies import AT, policy_meta
from rbac_reading import allows

from tulle.model.access import Guard, Issuer, TokenPolicy
from tulle.policy.request import Call, HttpRequest
from tulle.xds.client import ClientKind
from tulle.xds.filters.table import inbound

KEYS = Issuer(AT, "https://a", jwks="{}")
NO_KEYS = Issuer(AT, "https://b", jwks_uri="https://keys.example.com/k")
JWT = "envoy.filters.http.jwt_authn"


def _names(guard: Guard, client: ClientKind) -> list[str]:
    return [each["name"] for each in inbound(guard, 80, client)]


def test_envoy_checks_them() -> None:
    guard = Guard(tokens=(TokenPolicy(policy_meta(0), (KEYS,)),))
    assert _names(guard, ClientKind.ENVOY)[0] == JWT


@pytest.mark.parametrize(
    ("client", "issuer"),
    [(ClientKind.SIDECAR, KEYS), (ClientKind.ENVOY, NO_KEYS), (ClientKind.SIDECAR, NO_KEYS)],
)
def test_who_cannot_refuses_everything(client: ClientKind, issuer: Issuer) -> None:
    guard = Guard(tokens=(TokenPolicy(policy_meta(0), (KEYS, issuer)),))
    assert JWT not in _names(guard, client)
    filters = inbound(guard, 80, client)[:-1]
    assert not allows(filters, Call(80, "cluster.local/ns/a/sa/x", HttpRequest()))


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
