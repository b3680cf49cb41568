"""Which policies guard which port."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mesh_builders import BACKEND, at, codes, meta, placements, service, workload

from tulle.link import link
from tulle.model.access import (
    AccessAction,
    AccessPolicy,
    AccessRule,
    AccessTarget,
    Attribute,
    Clause,
    Condition,
    Guard,
    OperationsRef,
    PeerMode,
    PeerPolicy,
    ValueKind,
    ValueMatch,
)
from tulle.model.fragments import Fragment
from tulle.model.meta import labels
from tulle.model.settings import MeshSettings
from tulle.model.workloads import WorkloadRef

BACKEND_V1 = WorkloadRef("default", "backend-v1")
APP = labels({"app": "backend"})


def _peer(
    mode: PeerMode | None, namespace: str = "default", created: int = 0, **fields: object
) -> PeerPolicy:
    where = meta("PeerAuthentication", f"{namespace}-{created}", created, namespace)
    return PeerPolicy(where, mode, **fields)  # type: ignore[arg-type]


def _allow(target: AccessTarget, namespace: str = "default", *rules: AccessRule) -> AccessPolicy:
    return AccessPolicy(
        meta("AuthorizationPolicy", "policy", namespace=namespace), AccessAction.ALLOW, rules, target
    )


def _guard(*policies: Fragment, settings: MeshSettings | None = None) -> Guard:
    linked = link([service(), workload("backend-v1"), *policies], placements(), settings)
    return linked.mesh.workloads[BACKEND_V1].inbound[0].guard


@pytest.mark.parametrize(
    ("policies", "mode"),
    [
        ((), PeerMode.STRICT),
        ((_peer(PeerMode.PERMISSIVE, "istio-system"),), PeerMode.PERMISSIVE),
        ((_peer(PeerMode.PERMISSIVE, "istio-system"), _peer(None)), PeerMode.PERMISSIVE),
        ((_peer(PeerMode.PERMISSIVE, "istio-system"), _peer(PeerMode.DISABLE)), PeerMode.DISABLE),
        ((_peer(PeerMode.DISABLE), _peer(PeerMode.STRICT, created=1, selector=APP)), PeerMode.STRICT),
        ((_peer(PeerMode.DISABLE), _peer(PeerMode.STRICT, created=1)), PeerMode.DISABLE),
        ((_peer(None, selector=APP, ports=((9001, PeerMode.DISABLE),)),), PeerMode.DISABLE),
        ((_peer(PeerMode.PERMISSIVE, selector=APP, ports=((9001, None),)),), PeerMode.PERMISSIVE),
        ((_peer(PeerMode.DISABLE, "istio-system", selector=APP),), PeerMode.STRICT),
        ((_peer(PeerMode.DISABLE, "other"),), PeerMode.STRICT),
    ],
)
def test_the_nearest_policy_says_which_connections_are_taken(
    policies: tuple[PeerPolicy, ...], mode: PeerMode
) -> None:
    assert _guard(*policies).mode is mode


def test_callers_of_a_port_without_mutual_tls_speak_plaintext() -> None:
    def mtls(*policies: Fragment) -> set[bool]:
        mesh = link([service(), workload("backend-v1"), *policies], placements()).mesh
        return {each.mtls for each in mesh.endpoints[BACKEND].of(9001)}

    assert mtls() == {True}
    assert mtls(_peer(PeerMode.PERMISSIVE)) == {True}
    assert mtls(_peer(PeerMode.DISABLE)) == {False}


@pytest.mark.parametrize(
    ("target", "namespace", "holds"),
    [
        (AccessTarget(), "default", True),
        (AccessTarget(), "istio-system", True),
        (AccessTarget(), "other", False),
        (AccessTarget(APP), "default", True),
        (AccessTarget(APP), "istio-system", True),
        (AccessTarget(labels({"app": "x"})), "default", False),
        (AccessTarget(account="default/backend"), "default", True),
        (AccessTarget(account="other/backend"), "istio-system", False),
        (AccessTarget(services=("backend",)), "default", True),
        (AccessTarget(services=("x",)), "default", False),
    ],
)
def test_targets(target: AccessTarget, namespace: str, holds: bool) -> None:
    assert bool(_guard(_allow(target, namespace)).access) is holds


def test_cluster_local_means_the_mesh_itself() -> None:
    principal = ValueMatch(ValueKind.EXACT, "cluster.local/ns/a/sa/b")
    rule = AccessRule(at(), (Clause((Condition(at(), Attribute.PRINCIPAL, (principal,)),)),))
    guard = _guard(
        _allow(AccessTarget(), "default", rule), settings=MeshSettings(trust_domain="corp.example")
    )
    assert guard.access[0].rules[0].callers is not None
    condition = guard.access[0].rules[0].callers[0].conditions[0]
    assert condition.values == (replace(principal, value="corp.example/ns/a/sa/b"),)


def test_a_reference_to_nothing_allows_nothing() -> None:
    rule = AccessRule(at(), refers=(OperationsRef(at(7), "HTTPRouteGroup", "default", "gone"),))
    policy = _allow(AccessTarget(), "default", rule)
    linked = link([service(), workload("backend-v1"), policy], placements())
    guard = linked.mesh.workloads[BACKEND_V1].inbound[0].guard
    assert guard.access[0].rules[0].operations == ()
    assert "unknown-operations" in codes(linked)
