"""Pass 2: destination policies merged per host, namespace and audience, oldest first, as in Istio."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tulle.link.hosts import Hosts
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.mesh import LinkedPolicy
from tulle.model.meta import Labels, Meta, Visibility
from tulle.model.policies import DestinationPolicy, Subset, TrafficPolicy
from tulle.model.resilience import OtherService

_NOTHING = TrafficPolicy()


@dataclass(slots=True)
class _Merging:
    first: Meta
    policy: TrafficPolicy
    policy_from: Meta
    subsets: dict[str, Subset] = field(default_factory=dict)


def link_policies(
    policies: Iterable[DestinationPolicy], hosts: Hosts
) -> tuple[dict[str, tuple[LinkedPolicy, ...]], list[Diagnostic]]:
    """Policies by host or pattern. `policies` oldest first.

    Objects merge when host, namespace, selector and visibility agree: subsets are united (the first of a name
    stays) and the first traffic policy wins. Each overlap is warned about with both places.
    """
    merging: dict[tuple[str, str, Labels, Visibility], _Merging] = {}
    findings: list[Diagnostic] = []
    for policy in (_resolved(each, hosts) for each in policies):
        host = hosts.resolve(policy.host, policy.meta.namespace)
        key = (host, policy.meta.namespace, policy.workload_selector, policy.visibility)
        into = merging.get(key)
        if into is None:
            into = merging[key] = _Merging(policy.meta, policy.policy, policy.meta)
        else:
            if (into.policy.resilience is None) is (policy.policy.resilience is None):
                findings.append(_merged(host, into.first, policy.meta))
            findings += _merge_policy(into, policy)
        findings += _merge_subsets(into, policy)
    return _by_host(merging), findings


def _resolved(policy: DestinationPolicy, hosts: Hosts) -> DestinationPolicy:
    """The policy with its fallback's host in full."""
    said = policy.policy.resilience
    if said is None or said.breaker is None or not isinstance(said.breaker.fallback, OtherService):
        return policy
    fallback = said.breaker.fallback
    other = replace(fallback, host=hosts.resolve(fallback.host, policy.meta.namespace))
    breaker = replace(said.breaker, fallback=other)
    return replace(policy, policy=replace(policy.policy, resilience=replace(said, breaker=breaker)))


def _by_host(
    merging: dict[tuple[str, str, Labels, Visibility], _Merging],
) -> dict[str, tuple[LinkedPolicy, ...]]:
    found: dict[str, list[LinkedPolicy]] = {}
    for (host, namespace, selector, visibility), merged in merging.items():
        subsets = tuple(merged.subsets[name] for name in sorted(merged.subsets))
        linked = LinkedPolicy(host, namespace, merged.policy, subsets, visibility, selector)
        found.setdefault(host, []).append(linked)
    return {host: tuple(found[host]) for host in sorted(found)}


def _merge_policy(into: _Merging, policy: DestinationPolicy) -> list[Diagnostic]:
    if policy.policy == _NOTHING:
        return []
    if into.policy.resilience is None or policy.policy.resilience is None:
        # Two kinds of objects say the two halves.
        said = into.policy.resilience or policy.policy.resilience
        halves = (replace(into.policy, resilience=None), replace(policy.policy, resilience=None))
        if _NOTHING in halves:
            whole = halves[1] if halves[0] == _NOTHING else halves[0]
            into.policy_from = policy.meta if halves[0] == _NOTHING else into.policy_from
            into.policy = replace(whole, resilience=said)
            return []
    if into.policy == _NOTHING:
        into.policy, into.policy_from = policy.policy, policy.meta
        return []
    if into.policy == policy.policy:
        return []
    return [
        Diagnostic(
            Severity.WARNING,
            "traffic-policy-ignored",
            f"the trafficPolicy of {policy.meta} is ignored: "
            f"{into.policy_from} is older and has one for this host",
            policy.meta.source,
            field="spec.trafficPolicy",
            related=(into.policy_from.source,),
        )
    ]


def _merge_subsets(into: _Merging, policy: DestinationPolicy) -> list[Diagnostic]:
    findings = []
    for subset in policy.subsets:
        first = into.subsets.setdefault(subset.name, subset)
        if first is subset or (first.labels, first.policy) == (subset.labels, subset.policy):
            continue
        findings.append(
            Diagnostic(
                Severity.WARNING,
                "subset-ignored",
                f"subset {subset.name!r} of {policy.meta} is ignored: it is defined differently earlier",
                subset.source,
                field="spec.subsets",
                related=(first.source,),
            )
        )
    return findings


def _merged(host: str, first: Meta, later: Meta) -> Diagnostic:
    return Diagnostic(
        Severity.WARNING,
        "policies-merged",
        f"{later} and {first} are both for {host}; they are merged, the older first",
        later.source,
        field="spec.host",
        hint="keep one object per host",
        related=(first.source,),
    )
