"""Lowers HTTPRouteGroup and TCPRoute to operations that other objects refer to."""

from __future__ import annotations

from collections.abc import Iterator

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.smi import schema
from tulle.dialects.validate import validate
from tulle.model.access import (
    Attribute,
    Clause,
    Condition,
    NamedOperations,
    OperationSet,
    ValueKind,
    ValueMatch,
)
from tulle.objects import Path, RawObject


def http_route_group(obj: RawObject) -> Lowered:
    """HTTPRouteGroup → OperationSet."""
    findings = Findings(obj)
    parsed = validate(schema.HttpRouteGroup, findings)
    if parsed is None:
        return findings.lowered(())
    if (parsed.spec is None) is (parsed.matches is None):
        message = "must say matches once: in spec, or (before v1alpha3) at the top"
        findings.error("missing-field", message, ("matches",) if parsed.matches else ())
        return findings.lowered(())
    base: Path = ("spec", "matches") if parsed.spec is not None else ("matches",)
    matches = parsed.spec.matches if parsed.spec is not None else parsed.matches or []
    entries: list[NamedOperations] = []
    for index, match in enumerate(matches):
        if any(match.name == earlier.name for earlier in entries):
            findings.error("duplicate-name", f"match '{match.name}' is there twice", (*base, index, "name"))
        conditions = tuple(_conditions(match, (*base, index), findings))
        entries.append(NamedOperations(findings.place((*base, index)), match.name, Clause(conditions)))
    return findings.lowered((OperationSet(meta_of(obj), tuple(entries)),))


def _conditions(match: schema.HttpMatch, path: Path, findings: Findings) -> Iterator[Condition]:
    if match.methods and "*" not in match.methods:
        values = tuple(ValueMatch(ValueKind.EXACT, method) for method in match.methods)
        yield Condition(findings.place((*path, "methods")), Attribute.METHOD, values)
    if match.path_regex is not None:
        anchored = ValueMatch(ValueKind.REGEX, f"(?:{match.path_regex}).*")
        yield Condition(findings.place((*path, "pathRegex")), Attribute.PATH, (anchored,))
    listed = match.headers if isinstance(match.headers, list) else [match.headers]
    for name, value in (pair for each in listed for pair in sorted(each.items())):
        wanted = (ValueMatch(ValueKind.REGEX, value),)
        yield Condition(findings.place((*path, "headers")), Attribute.HEADER, wanted, key=(name.lower(),))


def tcp_route(obj: RawObject) -> Lowered:
    """TCPRoute → OperationSet."""
    findings = Findings(obj)
    parsed = validate(schema.TcpRoute, findings)
    if parsed is None:
        return findings.lowered(())
    matches = parsed.spec.matches or parsed.matches
    conditions: tuple[Condition, ...] = ()
    if matches is not None and matches.ports:
        values = tuple(ValueMatch(ValueKind.EXACT, str(port)) for port in matches.ports)
        conditions = (Condition(obj.source, Attribute.PORT, values),)
    entry = NamedOperations(obj.source, (matches.name if matches else None) or obj.name, Clause(conditions))
    return findings.lowered((OperationSet(meta_of(obj), (entry,)),))
