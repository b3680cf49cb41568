"""What does not change is not built again, and nothing depends on the order of arrival."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_builders import BACKEND, CLIENT, canary, meta, opened, placement, placements, service, workload

from tulle.link import link, relink_endpoints
from tulle.model.access import AccessAction, AccessPolicy, AccessRule, Issuer, TokenPolicy
from tulle.model.workloads import Workload, WorkloadRef
from tulle.xds.client import ClientKind
from tulle.xds.emit import Emitter
from tulle.xds.scope import Scoper
from tulle.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Snapshot

V1 = WorkloadRef("default", "backend-v1")


def bodies(found: Snapshot) -> dict[tuple[str, str], bytes]:
    return {(t, name): each.body for t, by_name in found.resources.items() for name, each in by_name.items()}


@settings(deadline=None)
@given(st.permutations([*canary(), service("other", created=1), workload("o", "other")]))
def test_arrival_order_never_changes_a_snapshot(fragments: list) -> None:
    expected = Emitter().emit(Scoper(link(canary_and_other(), placements()).mesh).scope(CLIENT))
    found = Emitter().emit(Scoper(link(fragments, placements()).mesh).scope(CLIENT))
    assert bodies(found) == bodies(expected)


def canary_and_other() -> list:
    return [*canary(), service("other", created=1), workload("o", "other")]


@settings(deadline=None)
@given(st.text("abcdefgh", min_size=1, max_size=8).filter(lambda name: name not in ("backend", "client")))
def test_an_unrelated_service_leaves_other_resources_as_they_are(name: str) -> None:
    before = bodies(Emitter().emit(Scoper(link(canary(), placements()).mesh).scope(CLIENT)))
    after = bodies(Emitter().emit(Scoper(link([*canary(), service(name)], placements()).mesh).scope(CLIENT)))
    changed = {key for key, body in before.items() if after[key] != body}
    assert changed == {(ROUTES, "outbound")}


def test_an_endpoint_change_rebuilds_nothing_else() -> None:
    emitter = Emitter()
    first = link(canary(), placements())
    scoper = Scoper(first.mesh)
    before = emitter.emit(scoper.scope(CLIENT))
    workloads = [each for each in canary() if isinstance(each, Workload)]
    moved = [placement("backend-v1", 30000), *placements()[1:]]
    second = relink_endpoints(first, workloads, [], moved)
    after = emitter.emit(Scoper(second.mesh, scoper).scope(CLIENT))
    for type_url in (CLUSTER, LISTENER, ROUTES):
        assert after.resources[type_url] is before.resources[type_url]
    v2 = f"outbound|9001|v2|{BACKEND}"
    assert after.resources[ENDPOINTS][v2] is before.resources[ENDPOINTS][v2]
    v1 = opened(after.resources[ENDPOINTS][f"outbound|9001|v1|{BACKEND}"])
    assert v1.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value == 30010


def test_an_unchanged_mesh_gives_the_same_snapshot_object() -> None:
    emitter = Emitter()
    scoper = Scoper(link(canary(), placements()).mesh)
    first = emitter.emit(scoper.scope(CLIENT))
    assert emitter.emit(scoper.scope(CLIENT)) is first
    again = emitter.emit(Scoper(link(canary(), placements()).mesh, scoper).scope(CLIENT))
    assert again.version == first.version
    assert again.resources[CLUSTER] is first.resources[CLUSTER]


def test_proxies_of_a_namespace_share_resources() -> None:
    emitter = Emitter()
    scoper = Scoper(link(canary(), placements()).mesh)
    one, two = emitter.emit(scoper.scope(CLIENT)), emitter.emit(scoper.scope(V1))
    assert one.resources[ENDPOINTS] is two.resources[ENDPOINTS]
    assert one.resources[ROUTES]["outbound"] is two.resources[ROUTES]["outbound"]
    assert emitter.emit(scoper.scope(CLIENT, ClientKind.GRPC)) is emitter.emit(
        scoper.scope(V1, ClientKind.GRPC)
    )


DENIAL = meta("AuthorizationPolicy", "deny")


@pytest.mark.parametrize(
    "policy",
    [
        AccessPolicy(DENIAL, AccessAction.DENY, (AccessRule(DENIAL.source),)),
        AccessPolicy(DENIAL, AccessAction.CUSTOM, (AccessRule(DENIAL.source),), provider="nobody"),
        TokenPolicy(DENIAL, (Issuer(DENIAL.source, "https://a.example", jwks="{}"),)),
    ],
    ids=["rules", "authorizer", "tokens"],
)
def test_policies_about_requests_change_nothing_of_envoys_connections(policy: AccessPolicy | TokenPolicy) -> None:
    """Envoy keeps a connection's filters, and asks its newest route table for every request: a denial that came by
    a listener would not hold for connections that are open.
    """

    def found(client: ClientKind, *more: AccessPolicy | TokenPolicy) -> Snapshot:
        mesh = link([*canary(), *more], placements()).mesh
        return Emitter().emit(Scoper(mesh).scope(V1, client))

    for client, changed in ((ClientKind.ENVOY, {ROUTES}), (ClientKind.SIDECAR, {LISTENER})):
        before, after = bodies(found(client)), bodies(found(client, policy))
        assert {kind for kind, name in after if before.get((kind, name)) != after[kind, name]} == changed
