"""Pass 5: findings about the linked whole: references to nothing, weights of nothing, dead rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from tulle.link.hosts import Hosts
from tulle.link.matches import rule_covers
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.hosts import pattern_covers, patterns_of
from tulle.model.mesh import BoundRule, HostRoutes, LinkedPolicy, LinkedService
from tulle.model.policies import DestinationPolicy, TrafficPolicy
from tulle.model.resilience import OtherService
from tulle.model.routes import Destination, Forward
from tulle.model.source import SourceRef


@dataclass(frozen=True, slots=True)
class References:
    """What a destination may refer to."""

    services: Mapping[str, LinkedService]
    policies: Mapping[str, tuple[LinkedPolicy, ...]]

    def check(self, destination: Destination, owner: str) -> Iterator[Diagnostic]:
        """Unknown host, port or subset. Warnings, since the object referred to may come later."""
        service = self.services.get(destination.host)
        if service is None:
            yield _warning(
                "unknown-host",
                f"{owner} sends to {destination.host}, which no Service or ServiceEntry declares",
                destination.source,
                "destination.host",
                _near(destination.host, self.services),
            )
            return
        numbers = [str(port.number) for port in service.ports]
        if destination.port is not None and service.port(destination.port) is None:
            yield _warning(
                "unknown-port",
                f"{owner} sends to port {destination.port} of {service.host}, which it does not have",
                destination.source,
                "destination.port.number",
                f"its ports are {', '.join(numbers) or 'none'}",
            )
        known = sorted(self._subsets(destination.host))
        if destination.subset is not None and destination.subset not in known:
            yield _warning(
                "unknown-subset",
                f"{owner} sends to subset {destination.subset!r} of {service.host}, which no policy defines",
                destination.source,
                "destination.subset",
                f"its subsets are {', '.join(known)}" if known else "define it in a DestinationRule",
            )

    def _subsets(self, host: str) -> set[str]:
        return {
            subset.name
            for pattern in patterns_of(host)
            for policy in self.policies.get(pattern, ())
            for subset in policy.subsets
        }


def check_routes(routes: Iterable[HostRoutes], references: References) -> list[Diagnostic]:
    """Findings about every rule; a rule bound to several hosts is reported once."""
    findings: dict[Diagnostic, None] = {}
    for host in routes:
        for bound in host.http:
            findings.update(dict.fromkeys(_check_http(bound, references)))
        for connection in (*host.tls, *host.tcp):
            for destination in connection.rule.destinations:
                findings.update(dict.fromkeys(references.check(destination, f"a rule for {host.host}")))
        findings.update(dict.fromkeys(_unreachable(host)))
    return list(findings)


def _check_http(bound: BoundRule, references: References) -> Iterator[Diagnostic]:
    for mirror in bound.rule.mirrors:
        yield from references.check(mirror.destination, bound.owner)
    action = bound.rule.action
    if not isinstance(action, Forward):
        return
    for destination in action.destinations:
        yield from references.check(destination, bound.owner)
    if sum(destination.weight for destination in action.destinations) == 0:
        yield _warning(
            "weights-zero",
            f"{bound.owner} has a rule whose weights add up to 0: its requests are answered 503",
            bound.rule.source,
            "route.weight",
            "give at least one destination a weight",
        )


def _unreachable(host: HostRoutes) -> Iterator[Diagnostic]:
    for index, later in enumerate(host.http):
        earlier = next((bound for bound in host.http[:index] if rule_covers(bound, later)), None)
        if earlier is not None:
            yield Diagnostic(
                Severity.WARNING,
                "rule-unreachable",
                f"no request to {host.host} reaches this rule of {later.owner}: "
                f"a rule of {earlier.owner} before it matches all of them",
                later.rule.source,
                hint="put the more specific rule first",
                related=(earlier.rule.source,),
            )


def check_claims(routes: Iterable[HostRoutes], tokens: Mapping[str, object]) -> list[Diagnostic]:
    """Rules on claims where no token is verified, so that they never hold."""
    if tokens:
        return []
    asking = (bound.rule for host in routes for bound in host.http if any(m.claims for m in bound.rule.matches))
    return [
        Diagnostic(
            Severity.WARNING,
            "claims-unverified",
            "no RequestAuthentication says whose tokens are believed, so that no claim of a request is known",
            rule.source,
            hint="one that selects the calling workload, whose sidecar chooses the route",
        )
        for rule in dict.fromkeys(asking)
    ]


def check_fallbacks(policies: Iterable[LinkedPolicy], references: References) -> list[Diagnostic]:
    """Fallback services that nobody declares."""
    findings: list[Diagnostic] = []
    for policy in policies:
        breaker = policy.policy.resilience and policy.policy.resilience.breaker
        if breaker and isinstance(breaker.fallback, OtherService):
            other = breaker.fallback
            destination = Destination(other.source, other.host, other.port)
            findings += references.check(destination, f"the fallback of {policy.host}")
    return findings


def check_policies(policies: Iterable[DestinationPolicy], hosts: Hosts) -> list[Diagnostic]:
    """Policies for hosts that nobody declares, and what they ask for that nothing here does yet."""
    findings = []
    for policy in policies:
        host = hosts.resolve(policy.host, policy.meta.namespace)
        covers = host in hosts.known or any(pattern_covers(host, each) for each in hosts.known)
        if not covers:
            findings.append(
                _warning(
                    "unknown-host",
                    f"{policy.meta} is for {host}, which no Service or ServiceEntry declares",
                    policy.meta.source,
                    "spec.host",
                    _near(host, hosts.known),
                )
            )
        settings = (policy.policy, *(subset.policy for subset in policy.subsets))
        every = (*settings, *(port.policy for each in settings for port in each.ports))
        findings += [
            _warning("not-applied", f"{policy.meta}: {what}", policy.meta.source, field, None)
            for field, what in dict.fromkeys(item for each in every for item in _not_applied(each))
        ]
    return findings


def _not_applied(policy: TrafficPolicy) -> Iterator[tuple[str, str]]:
    if policy.locality is not None and policy.locality.enabled:
        yield "loadBalancer.localityLbSetting", "traffic is not distributed by locality"
    if policy.tls is not None and policy.tls.credential_name is not None:
        yield "tls.credentialName", "client certificates are read from files only, not from secrets"


def _near(host: str, known: Iterable[str]) -> str | None:
    close = get_close_matches(host, list(known), n=1, cutoff=0.8)
    return f"did you mean {close[0]}?" if close else None


def _warning(code: str, message: str, source: SourceRef, field: str, hint: str | None) -> Diagnostic:
    return Diagnostic(Severity.WARNING, code, message, source, field=field, hint=hint)
