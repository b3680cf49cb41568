"""Merging of destination policies."""

from __future__ import annotations

from mesh_builders import BACKEND, canary, codes, linked, policy, service

from tulle.model.policies import Balancing, LoadBalancer, TrafficPolicy

RANDOM = TrafficPolicy(load_balancer=LoadBalancer(Balancing.RANDOM))
ROUND_ROBIN = TrafficPolicy(load_balancer=LoadBalancer(Balancing.ROUND_ROBIN))


def test_subsets_unite_and_the_oldest_traffic_policy_wins() -> None:
    younger = policy(RANDOM, "v2", name="younger", created=2)
    older = policy(ROUND_ROBIN, "v1", name="older", created=1)
    found = linked([service(), younger, older])
    (merged,) = found.mesh.policies[BACKEND]
    assert [subset.name for subset in merged.subsets] == ["v1", "v2"]
    assert merged.policy == ROUND_ROBIN
    ignored = next(each for each in found.diagnostics if each.code == "traffic-policy-ignored")
    assert (ignored.source.line, ignored.related[0].line) == (202, 201)


def test_a_policy_fills_in_where_the_older_says_nothing() -> None:
    found = linked([service(), policy(None, "v1", created=1), policy(RANDOM, name="b", created=2)])
    assert found.mesh.policies[BACKEND][0].policy == RANDOM
    assert codes(found) == ["policies-merged"]


def test_a_policy_for_nobody_is_reported() -> None:
    assert "unknown-host" in codes(linked([*canary(), policy(host="nobody", name="x")]))
