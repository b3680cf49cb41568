"""Pass 3a: intentions, of which the most specific decides alone, as policies, of which any DENY decides first.

Consul's order: a destination by name before `*`; then a source by name before a namespace's before `*`. What a more
specific intention decides is taken out of the less specific ones. Permissions of one source are asked in order, so that
a denial holds where no earlier permission allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tulle.link.exclusion import TooManyError, without
from tulle.link.hosts import Hosts
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
from tulle.model.intentions import DefaultIntention, IntentionSet, IntentionSource, Permission
from tulle.model.settings import MeshSettings


def link_intentions(
    sets: Iterable[IntentionSet], hosts: Hosts, settings: MeshSettings
) -> tuple[list[AccessPolicy], list[Diagnostic]]:
    """Policies that say the same. `sets` oldest first; of several for one destination the oldest counts."""
    findings: list[Diagnostic] = []
    by_place: dict[tuple[str, str | None], IntentionSet] = {}
    for each in sets:
        host = None if each.destination is None else hosts.resolve(each.destination, each.meta.namespace)
        first = by_place.setdefault((each.meta.namespace, host), each)
        if first is not each:
            findings.append(_ignored(first, each))
    made: list[AccessPolicy] = []
    for (namespace, host), found in by_place.items():
        wide = by_place.get((namespace, None)) if host is not None else None
        if host is None and namespace == settings.root_namespace:
            findings.append(_mesh_wide(found))
        named = tuple(sorted(other for space, other in by_place if other and space == namespace))
        target = AccessTarget(services=(host,)) if host is not None else AccessTarget(except_services=named)
        try:
            made += _policies(found, _ranked(found, () if wide is None else wide.sources), target, settings)
        except TooManyError:
            findings.append(_too_many(found))
            made.append(AccessPolicy(found.meta, AccessAction.ALLOW, (), target))
        findings += _nobody(found, settings)
    return made, findings


def _ranked(found: IntentionSet, wide: Sequence[IntentionSource]) -> Iterator[tuple[IntentionSource, Clause]]:
    """Each source that decides for somebody, most specific first, and for whom."""
    taken: list[str] = []
    for source in (*_by_rank(found.sources), *_by_rank(wide)):
        if source.caller in taken:
            continue
        before = tuple(each for each in taken if _covers(source.caller, each))
        if source.caller is None or not any(_covers(each, source.caller) for each in taken):
            yield source, _callers(source, before)
        if source.caller is None:
            return
        taken.append(source.caller)


def _by_rank(sources: Iterable[IntentionSource]) -> list[IntentionSource]:
    return sorted(sources, key=lambda each: -each.rank)


def _covers(wide: str | None, narrow: str) -> bool:
    return wide is None or (wide.endswith("/*") and narrow.startswith(wide[:-1]))


def _callers(source: IntentionSource, but_not: Sequence[str]) -> Clause:
    """Those whom a source names, without those whom a more specific one does."""
    conditions = [_who(source, [source.caller], negated=False)] if source.caller else []
    named = [each for each in but_not if not each.endswith("/*")]
    spaces = [each for each in but_not if each.endswith("/*")]
    conditions += [_who(source, group, negated=True) for group in (named, spaces) if group]
    return Clause(tuple(conditions))


def _who(source: IntentionSource, callers: Sequence[str], *, negated: bool) -> Condition:
    if callers[0].endswith("/*"):
        values = tuple(ValueMatch(ValueKind.EXACT, each[:-2]) for each in callers)
        return Condition(source.source, Attribute.NAMESPACE, values, negated)
    values = tuple(ValueMatch(ValueKind.EXACT, each) for each in callers)
    return Condition(source.source, Attribute.ACCOUNT, values, negated)


def _policies(
    found: IntentionSet,
    ranked: Iterable[tuple[IntentionSource, Clause]],
    target: AccessTarget,
    settings: MeshSettings,
) -> Iterator[AccessPolicy]:
    allow: list[AccessRule] = []
    deny: list[AccessRule] = []
    for source, callers in ranked:
        decided = _Decided(source, callers)
        allow += decided.allowed()
        deny += decided.denied(_default(settings))
    if deny:
        yield AccessPolicy(found.meta, AccessAction.DENY, tuple(deny), target)
    if _default(settings) is DefaultIntention.DENY:
        yield AccessPolicy(found.meta, AccessAction.ALLOW, tuple(allow), target)


def _default(settings: MeshSettings) -> DefaultIntention:
    return settings.default_intention or DefaultIntention.DENY


@dataclass(frozen=True, slots=True)
class _Decided:
    """What one source may and may not do."""

    source: IntentionSource
    callers: Clause

    def allowed(self) -> Iterator[AccessRule]:
        """Rules in the order of the permissions; denials are asked first and need no exception here.

        Anybody is anybody of the mesh: whoever comes in plaintext is not allowed by name, and denied by it.
        """
        callers = self.callers
        if self.source.caller is None:
            known = Condition(self.source.source, Attribute.PRINCIPAL, (ValueMatch(ValueKind.PRESENT),))
            callers = Clause((known, *callers.conditions))
        if self.source.action is AccessAction.ALLOW:
            yield AccessRule(self.source.source, (callers,))
        for permission in self.source.permissions:
            if permission.action is AccessAction.ALLOW:
                yield AccessRule(permission.source, (callers,), (permission.clause,))

    def denied(self, default: DefaultIntention) -> Iterator[AccessRule]:
        """Each denial without what an earlier permission allows."""
        if self.source.action is AccessAction.DENY:
            yield AccessRule(self.source.source, (self.callers,))
        earlier: list[Permission] = []
        for permission in self.source.permissions:
            if permission.action is AccessAction.ALLOW:
                earlier.append(permission)
                continue
            left = without(permission.clause, [each.clause for each in earlier])
            if left:
                yield AccessRule(permission.source, (self.callers,), left)


def _ignored(first: IntentionSet, later: IntentionSet) -> Diagnostic:
    return Diagnostic(
        Severity.WARNING,
        "intentions-ignored",
        f"{later.meta} has no effect: {first.meta} is older and for the same destination",
        later.meta.source,
        related=(first.meta.source,),
    )


def _mesh_wide(found: IntentionSet) -> Diagnostic:
    return Diagnostic(
        Severity.ERROR,
        "mesh-wide-intentions",
        f"{found.meta} is in the root namespace, where * would be every namespace's services",
        found.meta.source,
        hint="write it in each namespace that it is for",
    )


def _too_many(found: IntentionSet) -> Diagnostic:
    return Diagnostic(
        Severity.ERROR,
        "too-many-permissions",
        f"the denials of {found.meta} after its allowances are more cases than can be told apart",
        found.meta.source,
        hint="put denials before what they are exceptions of",
    )


def _nobody(found: IntentionSet, settings: MeshSettings) -> Iterator[Diagnostic]:
    """Where nothing is allowed, whoever comes from a Consul whose default is to allow may be surprised."""
    denies = all(source.action is AccessAction.DENY for source in found.sources)
    if settings.default_intention is None and denies and all(source.rank for source in found.sources):
        yield Diagnostic(
            Severity.WARNING,
            "default-intention",
            f"{found.meta} allows nobody: whom it does not name is refused too",
            found.meta.source,
            hint="MeshSettings spec.defaultIntention: Allow lets everybody else through",
        )
