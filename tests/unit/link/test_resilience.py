"""A host's resilience and the rest of its policy come from two kinds of objects."""

from __future__ import annotations

from datetime import UTC, datetime

from tulle.link.hosts import Hosts
from tulle.link.policies import link_policies
from tulle.model.meta import Meta
from tulle.model.policies import ConnectionPool, DestinationPolicy, TrafficPolicy
from tulle.model.resilience import Breaker, Deadline, OtherService, Resilience
from tulle.model.source import SourceRef

HERE = SourceRef("in.yaml", 1, 1)
HOST = "reviews.default.svc.cluster.local"
LIMITS = TrafficPolicy(connection_pool=ConnectionPool(max_connections=1))
DEADLINES = TrafficPolicy(resilience=Resilience(deadline=Deadline()))


def _policy(name: str, said: TrafficPolicy) -> DestinationPolicy:
    return DestinationPolicy(
        Meta(datetime(2026, 1, 1, tzinfo=UTC), "default", name, "Kind", HERE), "reviews", said
    )


def _linked(*said: TrafficPolicy) -> tuple[TrafficPolicy, list[str]]:
    policies = [_policy(f"p{index}", each) for index, each in enumerate(said)]
    linked, findings = link_policies(policies, Hosts([HOST], "cluster.local"))
    return linked[HOST][0].policy, [finding.code for finding in findings]


def test_the_two_halves_make_one_policy_in_either_order() -> None:
    whole = TrafficPolicy(connection_pool=LIMITS.connection_pool, resilience=DEADLINES.resilience)
    assert _linked(LIMITS, DEADLINES) == (whole, [])
    assert _linked(DEADLINES, LIMITS) == (whole, [])


def test_of_two_that_say_the_same_half_the_first_wins_with_a_warning() -> None:
    other = TrafficPolicy(resilience=Resilience(breaker=Breaker()))
    assert _linked(DEADLINES, other) == (DEADLINES, ["policies-merged", "traffic-policy-ignored"])


def test_a_fallback_is_named_in_full() -> None:
    breaker = Breaker(fallback=OtherService(HERE, "reviews", 80))
    said, _ = _linked(TrafficPolicy(resilience=Resilience(breaker=breaker)))
    assert said.resilience is not None
    assert said.resilience.breaker is not None
    assert said.resilience.breaker.fallback == OtherService(HERE, HOST, 80)
