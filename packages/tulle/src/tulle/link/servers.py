"""Pass 3a: Servers and what is granted on them, as policies that allow; a Server without grants allows nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tulle.link.exclusion import MOST, TooManyError, without
from tulle.model.access import (
    AccessAction,
    AccessPolicy,
    AccessRule,
    AccessTarget,
    Attribute,
    Clause,
    Condition,
    ValueKind,
    ValueMatch,
)
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.meta import Meta, selects
from tulle.model.servers import (
    CallerSet,
    GrantKind,
    InboundDefault,
    NamespaceDefault,
    ServerGrant,
    ServerPort,
    ServerRoute,
)
from tulle.model.source import SourceRef

CLUSTER_NETWORKS = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8", "127.0.0.0/8", "::1/128")  # fmt: skip  # noqa: E501
"""Linkerd's default, and this machine."""

_PATHS = {ValueKind.EXACT: 3, ValueKind.PREFIX: 2, ValueKind.REGEX: 1}


@dataclass(frozen=True, slots=True)
class ServerFragments:
    """What the pass takes, each kind oldest first."""

    servers: Sequence[ServerPort]
    grants: Sequence[ServerGrant]
    callers: Iterable[CallerSet]
    routes: Sequence[ServerRoute]
    defaults: Iterable[NamespaceDefault]


@dataclass(frozen=True, slots=True)
class Served:
    """`policies` guard the ports of Servers, `ports` (by namespace) say which these are, and `open` which of them
    callers without identity may reach. `defaults` are by namespace.
    """

    policies: tuple[AccessPolicy, ...] = ()
    ports: Mapping[str, tuple[AccessTarget, ...]] = field(default_factory=dict)
    open: Mapping[str, tuple[AccessTarget, ...]] = field(default_factory=dict)
    defaults: Mapping[str, InboundDefault] = field(default_factory=dict)


NOTHING_SERVED = Served()
"""Without Servers and defaults."""


def link_servers(written: ServerFragments) -> tuple[Served, list[Diagnostic]]:
    """Everything that Servers decide. A reference to nothing grants nothing, and is reported."""
    sets = {(each.meta.kind, each.meta.namespace, each.meta.name): each for each in written.callers}
    linking = _Linking(written, sets)
    policies: list[AccessPolicy] = []
    ports: dict[str, list[AccessTarget]] = {}
    unguarded: dict[str, list[AccessTarget]] = {}
    for server in written.servers:
        target = AccessTarget(labels=server.selector, ports=(server.port,))
        made = list(linking.policies(server, target))
        policies += made
        ports.setdefault(server.meta.namespace, []).append(target)
        if server.default is InboundDefault.AUDIT or any(map(_asks_no_identity, made)):
            unguarded.setdefault(server.meta.namespace, []).append(target)
    for grant in written.grants:
        linking.check_target(grant)
    served = Served(
        tuple(policies),
        {name: tuple(found) for name, found in ports.items()},
        {name: tuple(found) for name, found in unguarded.items()},
        {each.meta.name: each.inbound for each in written.defaults},
    )
    return served, list(dict.fromkeys(linking.findings))


def default_policies(default: InboundDefault, meta: Meta) -> tuple[AccessPolicy, ...]:
    """What a default says of a port for which there is no Server."""
    if default in (InboundDefault.AUDIT, InboundDefault.ALL_UNAUTHENTICATED):
        return ()
    return (AccessPolicy(meta, AccessAction.ALLOW, _default_rules(default, meta.source)),)


def lets_anybody_in(default: InboundDefault) -> bool:
    """Whether callers need no identity."""
    return default in (
        InboundDefault.AUDIT,
        InboundDefault.ALL_UNAUTHENTICATED,
        InboundDefault.CLUSTER_UNAUTHENTICATED,
    )


def _default_rules(default: InboundDefault, at: SourceRef) -> tuple[AccessRule, ...]:
    if default in (InboundDefault.DENY, InboundDefault.AUDIT):
        return ()
    conditions: list[Condition] = []
    if default in (InboundDefault.CLUSTER_AUTHENTICATED, InboundDefault.CLUSTER_UNAUTHENTICATED):
        networks = tuple(ValueMatch(ValueKind.CIDR, each) for each in CLUSTER_NETWORKS)
        conditions.append(Condition(at, Attribute.SOURCE_IP, networks))
    if default in (InboundDefault.CLUSTER_AUTHENTICATED, InboundDefault.ALL_AUTHENTICATED):
        conditions.append(Condition(at, Attribute.PRINCIPAL, (ValueMatch(ValueKind.PRESENT),)))
    return (AccessRule(at, (Clause(tuple(conditions)),)),)


_IDENTITIES = frozenset({Attribute.PRINCIPAL, Attribute.NAMESPACE, Attribute.ACCOUNT})


def _asks_no_identity(policy: AccessPolicy) -> bool:
    return any(
        not any(condition.attribute in _IDENTITIES for condition in clause.conditions)
        for rule in policy.rules
        for clause in ((Clause(),) if rule.callers is None else rule.callers)
    )


@dataclass(slots=True)
class _Linking:
    written: ServerFragments
    sets: Mapping[tuple[str, str, str], CallerSet]
    findings: list[Diagnostic] = field(default_factory=list)

    def policies(self, server: ServerPort, target: AccessTarget) -> Iterator[AccessPolicy]:
        """The Server's own, which closes the port, and one for each grant on it. With AUDIT they only report."""
        audit = server.default is InboundDefault.AUDIT
        own = _default_rules(server.default, server.meta.source)
        yield AccessPolicy(server.meta, AccessAction.ALLOW, own, target, audit)
        routes = [
            each
            for each in self.written.routes
            if each.meta.namespace == server.meta.namespace and server.meta.name in each.servers
        ]
        for grant in self.written.grants:
            if grant.meta.namespace != server.meta.namespace:
                continue
            found = self._operations(grant, server, routes)
            if found is None:
                continue
            callers = self._callers(grant)
            rule = AccessRule(grant.target.source, callers, found or None)
            yield AccessPolicy(grant.meta, AccessAction.ALLOW, (rule,), target, audit)

    def _operations(
        self, grant: ServerGrant, server: ServerPort, routes: Sequence[ServerRoute]
    ) -> tuple[Clause, ...] | None:
        """What a grant is about at this Server: nothing (None), everything (empty), or certain requests."""
        target = grant.target
        if target.kind is GrantKind.ROUTE:
            route = next((each for each in routes if each.meta.name == target.name), None)
            return None if route is None else self._own_requests(route, routes)
        if target.kind is GrantKind.SERVER:
            named = target.name == server.meta.name if target.name else selects(target.labels, server.labels)
            if not named:
                return None
        return tuple(clause for each in routes for clause in each.operations)

    def _own_requests(self, route: ServerRoute, routes: Sequence[ServerRoute]) -> tuple[Clause, ...] | None:
        """Its requests without those that a more specific match of another route takes."""
        found: list[Clause] = []
        for clause in route.operations:
            closer = [
                other
                for each in routes
                if each is not route
                for other in each.operations
                if _specificity(other) > _specificity(clause)
            ]
            try:
                found += without(clause, closer)
            except TooManyError:
                self._report(route.meta, route.meta.source, "overlaps with more routes than can be told apart")
                return None
        return tuple(found) or None

    def _callers(self, grant: ServerGrant) -> tuple[Clause, ...]:
        """One of its own callers and one of every set that it requires."""
        callers = grant.callers
        for ref in grant.requires:
            found = self.sets.get((ref.kind, ref.namespace, ref.name))
            if found is None:
                what = f"requires {ref.kind} {ref.namespace}/{ref.name}, which does not exist"
                self._report(grant.meta, ref.source, what)
                return ()
            callers = tuple(
                Clause((*each.conditions, *other.conditions)) for each in callers for other in found.alternatives
            )
            if len(callers) > MOST:
                self._report(grant.meta, ref.source, "requires more combinations than can be told apart")
                return ()
        return callers

    def check_target(self, grant: ServerGrant) -> None:
        """Reports a grant on what does not exist."""
        target, space = grant.target, grant.meta.namespace
        if target.kind is GrantKind.NAMESPACE or target.name is None:
            return
        among = self.written.servers if target.kind is GrantKind.SERVER else self.written.routes
        if not any((each.meta.namespace, each.meta.name) == (space, target.name) for each in among):
            self._report(grant.meta, target.source, f"is for {target.kind} {target.name}, which does not exist")

    def _report(self, meta: Meta, source: SourceRef, what: str) -> None:
        message = f"{meta} {what}: nothing is allowed by it"
        self.findings.append(Diagnostic(Severity.WARNING, "unknown-reference", message, source))


def _specificity(clause: Clause) -> tuple[int, int, int, int]:
    """The Gateway API's order: an exact path, a longer prefix, a method, more headers."""
    paths = [
        (_PATHS.get(value.kind, 0), len(value.value))
        for each in clause.conditions
        if each.attribute is Attribute.PATH
        for value in each.values[-1:]
    ]
    kind, length = paths[0] if paths else (0, 0)
    method = any(each.attribute is Attribute.METHOD for each in clause.conditions)
    return (kind, length, int(method), sum(each.attribute is Attribute.HEADER for each in clause.conditions))


def placed_default(default: InboundDefault, meta: Meta) -> Meta:
    """The meta of a default's own policy, so that a refusal names the workload that it is about."""
    return replace(meta, kind=f"default-inbound-policy {default}")
