"""Lowers service-intentions to an IntentionSet. A Consul service is called by its name, and calls as its account."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tulle.dialects.base import Lowered
from tulle.dialects.consul import schema
from tulle.dialects.consul.parse import Intentions, checked
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.validate import validate
from tulle.model.access import AccessAction, Attribute, Clause, Condition, ValueKind, ValueMatch
from tulle.model.intentions import IntentionSet, IntentionSource, Permission
from tulle.objects import Path, RawObject

_ACTIONS = {"allow": AccessAction.ALLOW, "deny": AccessAction.DENY}


def service_intentions(obj: RawObject) -> Lowered:
    """ServiceIntentions → IntentionSet."""
    findings = Findings(obj)
    parsed = validate(schema.ServiceIntentions, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    found = checked(spec.destination.name, spec.destination.namespace or obj.namespace, spec, findings)
    return _lowered(found, findings)


def config_entry(obj: RawObject) -> Lowered:
    """A configuration entry of kind service-intentions → IntentionSet."""
    findings = Findings(obj)
    parsed = validate(schema.ConfigEntry, findings)
    if parsed is None:
        return findings.lowered(())
    return _lowered(checked(obj.name, obj.namespace, parsed.spec, findings), findings)


def _lowered(found: Intentions, findings: Findings) -> Lowered:
    if findings.has_errors:
        return findings.lowered(())
    sources = tuple(
        _source(source, ("spec", "sources", index), findings) for index, source in enumerate(found.sources)
    )
    destination = None if found.name == "*" else f"{found.name}.{found.namespace}"
    return findings.lowered((IntentionSet(meta_of(findings.obj), destination, sources),))


def _source(source: schema.Source, path: Path, findings: Findings) -> IntentionSource:
    if source.name == "*":
        caller = None if source.namespace in (None, "*") else f"{source.namespace}/*"
    else:
        caller = f"{source.namespace or findings.obj.namespace}/{source.name}"
    permissions = tuple(
        _permission(each, (*path, "permissions", index), findings)
        for index, each in enumerate(source.permissions or ())
    )
    action = None if source.action is None else _ACTIONS[source.action]
    return IntentionSource(findings.place(path), caller, action, permissions)


def _permission(permission: schema.Permission, path: Path, findings: Findings) -> Permission:
    conditions = tuple(_conditions(permission.http, (*path, "http"), findings))
    return Permission(findings.place(path), _ACTIONS[permission.action], Clause(conditions))


def _conditions(http: schema.HttpMatch, path: Path, findings: Findings) -> Iterator[Condition]:
    if http.methods:
        values = tuple(ValueMatch(ValueKind.EXACT, method) for method in http.methods)
        yield Condition(findings.place((*path, "methods")), Attribute.METHOD, values)
    paths = (
        ("pathExact", ValueKind.EXACT, http.path_exact),
        ("pathPrefix", ValueKind.PREFIX, http.path_prefix),
        ("pathRegex", ValueKind.REGEX, http.path_regex),
    )
    for field, kind, value in paths:
        if value is not None:
            yield Condition(findings.place((*path, field)), Attribute.PATH, (ValueMatch(kind, value),))
    for index, header in enumerate(http.header):
        at = findings.place((*path, "header", index))
        yield Condition(at, Attribute.HEADER, (_value(header),), header.invert, (header.name.lower(),))


def _value(header: schema.HeaderMatch) -> ValueMatch:
    if header.present:
        return ValueMatch(ValueKind.PRESENT)
    if header.regex is not None:
        return ValueMatch(ValueKind.REGEX, f"(?i:{header.regex})" if header.ignore_case else header.regex)
    plain = (
        (ValueKind.EXACT, header.exact, "{}"),
        (ValueKind.PREFIX, header.prefix, "{}.*"),
        (ValueKind.SUFFIX, header.suffix, ".*{}"),
        (ValueKind.REGEX, header.contains, ".*{}.*"),
    )
    kind, value, pattern = next(each for each in plain if each[1] is not None)
    if header.ignore_case or kind is ValueKind.REGEX:
        quoted = pattern.format(re.escape(value or ""))
        return ValueMatch(ValueKind.REGEX, f"(?i:{quoted})" if header.ignore_case else quoted)
    return ValueMatch(kind, value or "")
