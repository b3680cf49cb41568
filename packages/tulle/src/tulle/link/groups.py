"""Pass 2b: routes that say which requests they match by naming another object (SMI's TrafficSplit)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from tulle.link.access import SetKey, operation_sets
from tulle.model.access import Attribute, Clause, OperationSet, OperationsRef, ValueKind, ValueMatch
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.matching import HeaderMatch, MatchKind, PathKind, PathMatch, RouteMatch, StringMatch
from tulle.model.meta import Meta
from tulle.model.routes import HttpRule, RouteSet
from tulle.model.source import SourceRef


def resolve_groups(
    sets: Iterable[RouteSet], operations: Iterable[OperationSet]
) -> tuple[list[RouteSet], list[Diagnostic]]:
    """The route sets with the matches they refer to. A rule of which no reference leads anywhere is left out."""
    known = operation_sets(operations)
    findings: list[Diagnostic] = []
    resolved = []
    for each in sets:
        if any(rule.matched_by for rule in each.http):
            rules = (_resolve(rule, each.meta, known, findings) for rule in each.http)
            resolved.append(replace(each, http=tuple(rule for rule in rules if rule is not None)))
        else:
            resolved.append(each)
    return resolved, findings


def _resolve(
    rule: HttpRule, owner: Meta, known: Mapping[SetKey, OperationSet], findings: list[Diagnostic]
) -> HttpRule | None:
    if not rule.matched_by:
        return rule
    matches = [*rule.matches]
    for wanted in rule.matched_by:
        found = known.get((wanted.kind, wanted.namespace, wanted.name))
        if found is None:
            findings.append(_unknown(owner, wanted))
            continue
        matches += [
            _route_match(entry.clause, entry.source)
            for entry in found.entries
            if not wanted.members or entry.name in wanted.members
        ]
    return replace(rule, matches=tuple(matches), matched_by=()) if matches else None


def _route_match(clause: Clause, source: SourceRef) -> RouteMatch:
    match = RouteMatch(source)
    for condition in clause.conditions:
        if condition.attribute is Attribute.METHOD:
            methods = "|".join(re.escape(value.value) for value in condition.values)
            match = replace(match, method=StringMatch(MatchKind.REGEX, methods))
        elif condition.attribute is Attribute.PATH:
            match = replace(match, path=PathMatch(PathKind.REGEX, condition.values[0].value))
        elif condition.attribute is Attribute.HEADER:
            headers = tuple(_headers(condition.key[0], condition.values))
            match = replace(match, headers=match.headers + headers)
    return match


def _headers(name: str, values: Iterable[ValueMatch]) -> Iterator[HeaderMatch]:
    for value in values:
        kind = MatchKind.REGEX if value.kind is ValueKind.REGEX else MatchKind.EXACT
        yield HeaderMatch(name, StringMatch(kind, value.value))


def _unknown(owner: Meta, wanted: OperationsRef) -> Diagnostic:
    return Diagnostic(
        Severity.WARNING,
        "unknown-operations",
        f"{owner} refers to {wanted.kind} {wanted.namespace}/{wanted.name}, which does not exist: "
        "no request is matched by it",
        wanted.source,
        field="spec.matches",
    )
