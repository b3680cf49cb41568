"""Sums up what access policies that are tried out would have denied, workload by workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tulle.api.dry_run import DryRunOutcome, DryRunPolicy, DryRunReport
from tulle.controlplane.configuration import Configuration
from tulle.controlplane.views import place
from tulle.model.access import AccessPolicy
from tulle.model.mesh import PlacedWorkload
from tulle.status.dry_run import ALLOW, DENY, Policy, outcomes
from tulle.status.edges import Proxy, scrape_all
from tulle.xds.names import access_rules


@dataclass(frozen=True, slots=True)
class DryRunReporter:
    """Implements `tulle.api.dry_run.DryRunBackend`."""

    configuration: Configuration

    async def dry_run(self) -> DryRunReport:
        """Asks those sidecars at once that try something out."""
        mesh = self.configuration.current.compiled.linked.mesh
        trying = {each.ref: policies for each in mesh.workloads.values() if (policies := _tried(each))}
        workloads = [mesh.workloads[ref] for ref in trying]
        texts = await scrape_all([Proxy(each.ref.namespace, each.ref.name, each.admin) for each in workloads])
        told = list(zip(workloads, texts, strict=True))
        silent = [f"{each.ref.namespace}/{each.ref.name}" for each, text in told if text is None]
        found = [one for each, text in told if text is not None for one in _outcomes(each, trying[each.ref], text)]
        return DryRunReport(outcomes=found, silent=silent)


def _tried(workload: PlacedWorkload) -> dict[str, AccessPolicy]:
    """The policies that some port of it tries out, by name; what only marks calls denies nothing."""
    policies = [each for inbound in workload.inbound for each in inbound.guard.access]
    return {str(each.meta): each for each in policies if each.dry_run and each.action in (DENY, ALLOW)}


def _outcomes(workload: PlacedWorkload, policies: dict[str, AccessPolicy], text: str) -> Iterator[DryRunOutcome]:
    tried = [
        Policy(str(each.action), name, access_rules(each.meta.kind, each.meta.namespace, each.meta.name))
        for name, each in sorted(policies.items())
    ]
    for each in outcomes(text, tried):
        about = [DryRunPolicy(policy=name, source=place(policies[name].meta.source)) for name in each.policies]
        yield DryRunOutcome(
            namespace=workload.ref.namespace, workload=workload.ref.name, action=each.action, policies=about,
            denied=each.denied, calls=each.calls,
        )
