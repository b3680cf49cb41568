"""Pass 3b: policies of access, of connections and of tokens, attached to the ports that they guard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import urlsplit

from tulle.link.hosts import Hosts
from tulle.link.servers import NOTHING_SERVED, Served, default_policies, lets_anybody_in, placed_default
from tulle.model.access import (
    AccessAction,
    AccessPolicy,
    AccessRule,
    AccessTarget,
    Attribute,
    Clause,
    Condition,
    Guard,
    Issuer,
    OperationSet,
    OperationsRef,
    PeerMode,
    PeerPolicy,
    TokenPolicy,
    ValueKind,
    ValueMatch,
)
from tulle.model.authorizers import Authorizer
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.mesh import LinkedService
from tulle.model.meta import Labels, Meta, selects
from tulle.model.servers import InboundDefault
from tulle.model.settings import MeshSettings

DEFAULT_TRUST_DOMAIN = "cluster.local"
"""What policies write for the mesh's own trust domain, whatever that is (Istio's rule)."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """What a policy's target is compared with: one application port (and its name) of one workload; `account` is
    `NS/SA`; `default` is what the workload itself says of ports without Server.
    """

    namespace: str
    labels: Labels
    account: str
    port: int
    services: tuple[str, ...] = ()
    name: str = ""
    workload: Meta | None = None
    default: InboundDefault | None = None


@dataclass(frozen=True, slots=True)
class Security:
    """The policies by namespace, oldest first, with everything they refer to resolved."""

    root: str
    access: Mapping[str, tuple[AccessPolicy, ...]]
    peers: Mapping[str, tuple[PeerPolicy, ...]]
    tokens: Mapping[str, tuple[TokenPolicy, ...]]
    served: Served = NOTHING_SERVED

    def guard(self, port: Guarded) -> Guard:
        """Everything that guards one port: the mesh's policies, then the namespace's."""
        spaces = dict.fromkeys((self.root, port.namespace))
        access = (each for space in spaces for each in self.access.get(space, ()))
        tokens = (each for space in spaces for each in self.tokens.get(space, ()))
        default = self._default(port)
        own = default_policies(*default) if default is not None else ()
        return Guard(
            self._mode(port, None if default is None else default[0]),
            (*(each for each in access if _is_for(each.target, port)), *own),
            tuple(each for each in tokens if _is_for(each.target, port)),
        )

    def issuers(self, caller: Guarded) -> tuple[Issuer, ...]:
        """Whose tokens a workload's sidecar believes when it routes the workload's own calls: those of the policies
        that select the workload as a whole. `caller` has no port.
        """
        return self.guard(caller).issuers

    def _default(self, port: Guarded) -> tuple[InboundDefault, Meta] | None:
        """What is said of ports without Server, where this is one."""
        said = port.default or self.served.defaults.get(port.namespace)
        if said is None or port.workload is None or _among(self.served.ports, port):
            return None
        return said, placed_default(said, port.workload)

    def _mode(self, port: Guarded, default: InboundDefault | None) -> PeerMode:
        """As written; where nothing is, a port that callers without identity may reach takes plaintext too."""
        said = self._said(port.namespace, port.labels, port.port)
        if said is not None:
            return said
        anybody = default is not None and lets_anybody_in(default)
        return PeerMode.PERMISSIVE if anybody or _among(self.served.open, port) else PeerMode.STRICT

    def mode(self, namespace: str, labels: Labels, port: int) -> PeerMode:
        """Which connections a port takes by PeerAuthentication; else STRICT."""
        return self._said(namespace, labels, port) or PeerMode.STRICT

    def _said(self, namespace: str, labels: Labels, port: int) -> PeerMode | None:
        """What is written, if anything is."""
        policy = self.peer_policy(namespace, labels, port)
        if policy is None:
            return None
        return dict(policy.ports).get(port) or policy.mode

    def peer_policy(self, namespace: str, labels: Labels, port: int) -> PeerPolicy | None:
        """The policy that says which connections a port takes: by port, workload, namespace, mesh; of several the
        oldest.

        As in Istio, a selector in the root namespace is for workloads of that namespace only.
        """
        own = self.peers.get(namespace, ())
        selecting = [each for each in own if each.selector and selects(each.selector, labels)]
        if selecting and dict(selecting[0].ports).get(port) is not None:
            return selecting[0]
        wide = [each for each in own if not each.selector]
        mesh = [each for each in self.peers.get(self.root, ()) if not each.selector]
        said = (each[0] for each in (selecting, wide, mesh) if each)
        return next((policy for policy in said if policy.mode is not None), None)


def _among(targets: Mapping[str, tuple[AccessTarget, ...]], port: Guarded) -> bool:
    return any(_is_for(each, port) for each in targets.get(port.namespace, ()))


def _is_for(target: AccessTarget, port: Guarded) -> bool:
    return (
        selects(target.labels, port.labels)
        and target.account in (None, port.account)
        and (not target.services or not set(target.services).isdisjoint(port.services))
        and set(target.except_services).isdisjoint(port.services)
        and (not target.ports or port.port in target.ports or (port.name != "" and port.name in target.ports))
    )


@dataclass(frozen=True, slots=True)
class SecurityFragments:
    """What the pass takes, each kind oldest first."""

    access: Iterable[AccessPolicy]
    operations: Iterable[OperationSet]
    peers: Iterable[PeerPolicy]
    tokens: Iterable[TokenPolicy]
    served: Served = NOTHING_SERVED


def link_security(
    written: SecurityFragments, hosts: Hosts, services: Mapping[str, LinkedService], settings: MeshSettings
) -> tuple[Security, list[Diagnostic]]:
    """The policies with their references resolved. A reference to nothing never matches, and is reported."""
    findings: list[Diagnostic] = []
    resolver = _Resolver(operation_sets(written.operations), settings.trust_domains, findings)
    access: dict[str, list[AccessPolicy]] = {}
    for policy in written.access:
        rules = tuple(resolver.rule(rule, policy) for rule in policy.rules)
        target = _target(policy.target, policy.meta.namespace, hosts)
        authorizer = _authorizer(policy, (hosts, services, settings), findings)
        made = replace(policy, rules=rules, target=target, authorizer=authorizer)
        access.setdefault(policy.meta.namespace, []).append(made)
    peers: dict[str, list[PeerPolicy]] = {}
    for peer in written.peers:
        peers.setdefault(peer.meta.namespace, []).append(peer)
        findings += _check_peer(peer, peers[peer.meta.namespace], settings.root_namespace)
    tokens: dict[str, list[TokenPolicy]] = {}
    for token in written.tokens:
        issuers = tuple(_with_keys(issuer, token, hosts, services, findings) for issuer in token.issuers)
        target = _target(token.target, token.meta.namespace, hosts)
        tokens.setdefault(token.meta.namespace, []).append(replace(token, issuers=issuers, target=target))
    security = Security(
        settings.root_namespace, _frozen(access), _frozen(peers), _frozen(tokens), written.served
    )
    return security, findings


def _authorizer(
    policy: AccessPolicy,
    among: tuple[Hosts, Mapping[str, LinkedService], MeshSettings],
    findings: list[Diagnostic],
) -> Authorizer | None:
    """The provider of a CUSTOM policy with the service that it is; None, and everything is refused, without one."""
    if policy.action is not AccessAction.CUSTOM:
        return None
    hosts, services, settings = among
    found = next((each for each in settings.authorizers if each.name == policy.provider), None)
    if found is None:
        findings.append(
            Diagnostic(
                Severity.WARNING,
                "unknown-provider",
                f"{policy.meta} asks {policy.provider}, which is not among MeshConfig's extensionProviders: "
                "every request to its workloads is refused",
                policy.meta.source,
                field="spec.provider.name",
            )
        )
        return None
    namespace, _, written = found.service.rpartition("/")
    host = hosts.resolve(written, namespace or settings.root_namespace)
    service = services.get(host)
    if service is not None and service.port(found.port) is not None:
        return replace(found, host=host)
    findings.append(
        Diagnostic(
            Severity.WARNING,
            "unknown-provider",
            f"{found.name} is {host}:{found.port}, which no Service or ServiceEntry declares: "
            f"every request to the workloads of {policy.meta} is refused",
            found.source,
            field="extensionProviders",
            related=(policy.meta.source,),
        )
    )
    return None


_T = TypeVar("_T", AccessPolicy, PeerPolicy, TokenPolicy)


def _frozen(found: dict[str, list[_T]]) -> dict[str, tuple[_T, ...]]:
    return {namespace: tuple(found[namespace]) for namespace in sorted(found)}


def _target(target: AccessTarget, namespace: str, hosts: Hosts) -> AccessTarget:
    return replace(target, services=tuple(hosts.resolve(each, namespace) for each in target.services))


SetKey = tuple[str, str, str]


def operation_sets(operations: Iterable[OperationSet]) -> dict[SetKey, OperationSet]:
    """By kind, namespace and name; of several the oldest. `operations` oldest first."""
    found: dict[SetKey, OperationSet] = {}
    for each in operations:
        found.setdefault((each.meta.kind, each.meta.namespace, each.meta.name), each)
    return found


@dataclass(frozen=True, slots=True)
class _Resolver:
    sets: Mapping[SetKey, OperationSet]
    trust_domains: tuple[str, ...]
    findings: list[Diagnostic]

    def rule(self, rule: AccessRule, policy: AccessPolicy) -> AccessRule:
        """With the operations it refers to, and the mesh's own trust domain."""
        operations = rule.operations
        if rule.refers:
            found = (clause for each in rule.refers for clause in self._operations(each, policy))
            operations = (*(operations or ()), *found)
        callers = rule.callers
        if callers is not None:
            callers = tuple(self._clause(each) for each in callers)
        return replace(rule, callers=callers, operations=operations, when=self._clause(rule.when), refers=())

    def _clause(self, clause: Clause) -> Clause:
        return Clause(tuple(self._condition(each) for each in clause.conditions))

    def _condition(self, condition: Condition) -> Condition:
        if condition.attribute is not Attribute.PRINCIPAL or self.trust_domains == (DEFAULT_TRUST_DOMAIN,):
            return condition
        values = tuple(each for value in condition.values for each in self._principals(value))
        return replace(condition, values=values)

    def _principals(self, written: ValueMatch) -> Iterator[ValueMatch]:
        """A principal of the mesh by any of its names is meant in all of its trust domains (Istio's rule)."""
        domain, slash, rest = written.value.partition("/")
        whole = written.kind in (ValueKind.EXACT, ValueKind.PREFIX) and slash
        if not whole or domain not in (*self.trust_domains, DEFAULT_TRUST_DOMAIN):
            yield written
            return
        for each in self.trust_domains:
            yield replace(written, value=f"{each}/{rest}")

    def _operations(self, wanted: OperationsRef, policy: AccessPolicy) -> Iterator[Clause]:
        found = self.sets.get((wanted.kind, wanted.namespace, wanted.name))
        if found is None:
            what = f"{wanted.kind} {wanted.namespace}/{wanted.name}, which does not exist"
            self.findings.append(_dangling(policy, wanted, what))
            return
        names = {entry.name for entry in found.entries}
        for member in wanted.members:
            if member not in names:
                what = f"match {member!r}, which {found.meta} does not have"
                self.findings.append(_dangling(policy, wanted, what))
        for entry in found.entries:
            if not wanted.members or entry.name in wanted.members:
                yield entry.clause


def _dangling(policy: AccessPolicy, wanted: OperationsRef, what: str) -> Diagnostic:
    return Diagnostic(
        Severity.WARNING,
        "unknown-operations",
        f"{policy.meta} refers to {what}: nothing is allowed by it",
        wanted.source,
        field="spec.rules",
    )


def _check_peer(peer: PeerPolicy, among: list[PeerPolicy], root: str) -> Iterator[Diagnostic]:
    """Of several for the same workloads the oldest holds; `among` are those of the namespace up to this one."""
    first = next(each for each in among if each.selector == peer.selector)
    if first is not peer:
        yield Diagnostic(
            Severity.WARNING,
            "peer-policy-ignored",
            f"{peer.meta} has no effect: {first.meta} is older and for the same workloads",
            peer.meta.source,
            related=(first.meta.source,),
        )
    if peer.selector and peer.meta.namespace == root:
        yield Diagnostic(
            Severity.WARNING,
            "root-namespace-selector",
            f"{peer.meta} selects workloads of namespace {root} only, not of the whole mesh",
            peer.meta.source,
            field="spec.selector",
            hint="without a selector it is for the whole mesh",
        )


def _with_keys(
    issuer: Issuer,
    policy: TokenPolicy,
    hosts: Hosts,
    services: Mapping[str, LinkedService],
    findings: list[Diagnostic],
) -> Issuer:
    """With the service that its keys are fetched from."""
    if issuer.jwks is not None or issuer.jwks_uri is None:
        return issuer
    parts = urlsplit(issuer.jwks_uri)
    host = hosts.resolve(parts.hostname or "", policy.meta.namespace)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    service = services.get(host)
    if service is not None and service.port(port) is not None:
        return replace(issuer, key_host=host, key_port=port)
    findings.append(
        Diagnostic(
            Severity.ERROR,
            "unknown-key-server",
            f"the keys of {issuer.issuer} come from {host}:{port}, which no Service or ServiceEntry declares: "
            "no token of this issuer could be checked",
            issuer.source,
            field="spec.jwtRules.jwksUri",
            hint="declare a ServiceEntry for it, with a DestinationRule of tls mode SIMPLE for https; or give jwks",
        )
    )
    return issuer
