"""Which policy holds for one caller, service, subset and port: Istio's order of namespaces and of levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tulle.model.hosts import patterns_of
from tulle.model.mesh import LinkedPolicy, LinkedService, Mesh
from tulle.model.meta import Labels, Visibility, selects
from tulle.model.policies import Subset, TrafficPolicy


def policy_for(mesh: Mesh, service: LinkedService, namespace: str, labels: Labels) -> LinkedPolicy:
    """The policy a caller of `namespace` with `labels` follows for a service.

    As in Istio: the caller's own namespace first, then the service's, then the root namespace; among those of
    a namespace one that selects the caller's workload, then the most specific host.
    """
    candidates = list(_candidates(mesh.policies, service.host))
    root = mesh.settings.root_namespace
    for wanted in dict.fromkeys((namespace, service.namespace, root)):
        found = [
            policy
            for policy in candidates
            if policy.namespace == wanted and _applies(policy, namespace, labels)
        ]
        if found:
            return max(found, key=lambda policy: (bool(policy.workload_selector), len(policy.host)))
    return LinkedPolicy(service.host, service.namespace, TrafficPolicy(), (), Visibility())


def _candidates(policies: Mapping[str, tuple[LinkedPolicy, ...]], host: str) -> Iterable[LinkedPolicy]:
    for pattern in patterns_of(host):
        yield from policies.get(pattern, ())


def _applies(policy: LinkedPolicy, namespace: str, labels: Labels) -> bool:
    if policy.workload_selector:
        return policy.namespace == namespace and selects(policy.workload_selector, labels)
    return policy.namespace == namespace or policy.visibility.covers(namespace)


def at_port(policy: TrafficPolicy, subset: Subset | None, port: int) -> TrafficPolicy:
    """The settings for a subset and port. Subsets inherit what they leave out; port settings replace all."""
    base = _level(policy, port)
    if policy.resilience is not None and base is not policy:
        base = replace(base, resilience=policy.resilience)
    if subset is None:
        return base
    over = _level(subset.policy, port)
    return TrafficPolicy(
        load_balancer=over.load_balancer or base.load_balancer,
        connection_pool=over.connection_pool or base.connection_pool,
        outlier=over.outlier or base.outlier,
        tls=over.tls or base.tls,
        locality=over.locality or base.locality,
        resilience=base.resilience,
    )


def _level(policy: TrafficPolicy, port: int) -> TrafficPolicy:
    return next((each.policy for each in policy.ports if each.port == port), policy)
