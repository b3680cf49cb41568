"""One condition of a policy as Envoy's RBAC principal or permission."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tulle.model.access import Attribute, Clause, Condition, ValueKind, ValueMatch
from tulle.xds.filters import jwt

_OF_THE_CALL = frozenset(
    {Attribute.HOST, Attribute.METHOD, Attribute.PATH, Attribute.DESTINATION_IP, Attribute.SNI}
)
"""What a permission asks about; everything else is about the caller and belongs in principals."""

_CLAIMS = {Attribute.AUDIENCE: ("aud",), Attribute.PRESENTER: ("azp",)}

_PRESENT = {"safe_regex": {"regex": ".+"}}
_ANYTHING = {"safe_regex": {"regex": ".*"}}
_TEMPLATES = {"{*}": "[^/]+", "{**}": ".*"}


def is_of_the_call(condition: Condition) -> bool:
    """Whether a condition on its own belongs in a permission."""
    return condition.attribute in _OF_THE_CALL


def principal(clause: Clause) -> dict[str, Any]:
    """A Principal: every condition of the clause."""
    terms = [_negatable(each, "or_ids", "ids", "not_id") for each in clause.conditions]
    if not terms:
        return {"any": True}
    return terms[0] if len(terms) == 1 else {"and_ids": {"ids": terms}}


def permission(clause: Clause) -> dict[str, Any]:
    """A Permission: every condition of the clause."""
    terms = [_negatable(each, "or_rules", "rules", "not_rule") for each in clause.conditions]
    if not terms:
        return {"any": True}
    return terms[0] if len(terms) == 1 else {"and_rules": {"rules": terms}}


def _negatable(condition: Condition, either: str, members: str, negation: str) -> dict[str, Any]:
    """Any of the values, or none of them; in the words of principals or of permissions."""
    terms = [term for value in condition.values for term in _terms(condition, value, either, members)]
    if not terms:  # a value that nothing can have; Envoy refuses alternatives of no length
        found: dict[str, Any] = {negation: {"any": True}}
    else:
        found = terms[0] if len(terms) == 1 else {either: {members: terms}}
    return {negation: found} if condition.negated else found


def _terms(condition: Condition, value: ValueMatch, either: str, members: str) -> Iterator[dict[str, Any]]:
    """Alternatives that together are one value."""
    match condition.attribute:
        case Attribute.PRINCIPAL | Attribute.NAMESPACE | Attribute.ACCOUNT:
            yield {"authenticated": {"principal_name": _identity(condition.attribute, value)}}
        case Attribute.SOURCE_IP:
            yield {"direct_remote_ip": _cidr(value)}
        case Attribute.REMOTE_IP:
            yield {"remote_ip": _cidr(value)}
        case Attribute.DESTINATION_IP:
            yield {"destination_ip": _cidr(value)}
        case Attribute.REQUEST_PRINCIPAL:
            for issuer, subject in _splits(value):
                both = [_claim(("iss",), issuer), _claim(("sub",), subject)]
                yield {f"and_{members}": {members: both}}
        case Attribute.AUDIENCE | Attribute.PRESENTER:
            yield _claim(_CLAIMS[condition.attribute], text(value))
        case Attribute.CLAIM:
            yield _claim(condition.key, text(value))
        case Attribute.HEADER:
            yield {"header": _header(condition.key[0], value)}
        case Attribute.HOST:
            for wanted in _host(value):
                yield {"header": {"name": ":authority", "string_match": wanted}}
        case Attribute.METHOD:
            yield {"header": {"name": ":method", "string_match": text(value)}}
        case Attribute.PATH:
            yield {"url_path": {"path": text(value)}}
        case Attribute.SNI:
            yield {"requested_server_name": text(value)}
        case Attribute.PORT:
            raise AssertionError("ports are decided before emission")


def _host(value: ValueMatch) -> Iterator[dict[str, Any]]:
    """Matchers of an authority, in any case; a value that names no port is that host on every port."""
    wanted = text(value)
    # an expression that matches anything has no case, and data planes refuse to ignore that of any
    yield wanted if "safe_regex" in wanted else {**wanted, "ignore_case": True}
    named = value.value
    if ":" in named and not named.endswith("]"):
        return
    if value.kind is ValueKind.EXACT:
        yield {"prefix": f"{named}:", "ignore_case": True}
    elif value.kind is ValueKind.SUFFIX:
        yield {"safe_regex": {"regex": f"(?i)[^:]*{re.escape(named)}:.*"}}


def text(value: ValueMatch) -> dict[str, Any]:
    """A StringMatcher."""
    match value.kind:
        case ValueKind.EXACT:
            return {"exact": value.value}
        case ValueKind.PREFIX | ValueKind.SUFFIX:
            # Envoy refuses affixes of no length
            return {str(value.kind): value.value} if value.value else dict(_ANYTHING)
        case ValueKind.REGEX:
            return {"safe_regex": {"regex": value.value}}
        case ValueKind.TEMPLATE:
            return {"safe_regex": {"regex": template_regex(value.value)}}
        case ValueKind.PRESENT:
            return dict(_PRESENT)
        case ValueKind.CIDR:
            raise AssertionError("a network is no text")


def template_regex(path: str) -> str:
    """The regex of a path template: `{*}` is one segment that is not empty, `{**}` anything at all."""
    parts = re.split(r"(\{\*\*?\})", path)
    return "".join(_TEMPLATES.get(part) or re.escape(part) for part in parts)


def _header(name: str, value: ValueMatch) -> dict[str, Any]:
    if value.kind is ValueKind.PRESENT:
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": text(value)}


def _identity(attribute: Attribute, value: ValueMatch) -> dict[str, Any]:
    """A StringMatcher for the caller's SPIFFE id."""
    if attribute is Attribute.PRINCIPAL:
        if value.kind in (ValueKind.EXACT, ValueKind.PREFIX):
            return {str(value.kind): f"spiffe://{value.value}"}
        if value.kind is ValueKind.SUFFIX:
            return {"safe_regex": {"regex": f"spiffe://.*{re.escape(value.value)}"}}
        return {"prefix": "spiffe://"}
    if attribute is Attribute.NAMESPACE:
        return {"safe_regex": {"regex": f"spiffe://[^/]+/ns/{_segment(value)}/sa/[^/]+"}}
    namespace, _, account = value.value.partition("/")
    return {"safe_regex": {"regex": f"spiffe://[^/]+/ns/{re.escape(namespace)}/sa/{re.escape(account)}"}}


def _segment(value: ValueMatch) -> str:
    quoted = re.escape(value.value)
    return {
        ValueKind.EXACT: quoted,
        ValueKind.PREFIX: f"{quoted}[^/]*",
        ValueKind.SUFFIX: f"[^/]*{quoted}",
    }.get(value.kind, "[^/]+")


def _splits(value: ValueMatch) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Matchers of issuer and subject for a match of `issuer/subject`: either may have slashes, so that every
    slash of the value may be the one between them, and a wildcard may reach beyond it.
    """
    if value.kind is ValueKind.PRESENT:
        yield _PRESENT, _PRESENT
        return
    if value.kind is ValueKind.PREFIX:
        yield text(value), _ANYTHING
    if value.kind is ValueKind.SUFFIX:
        yield _ANYTHING, text(value)
    of_issuer = ValueKind.SUFFIX if value.kind is ValueKind.SUFFIX else ValueKind.EXACT
    of_subject = ValueKind.PREFIX if value.kind is ValueKind.PREFIX else ValueKind.EXACT
    for slash in (found.start() for found in re.finditer("/", value.value)):
        issuer, subject = value.value[:slash], value.value[slash + 1 :]
        yield text(ValueMatch(of_issuer, issuer)), text(ValueMatch(of_subject, subject))


def _claim(path: tuple[str, ...], wanted: dict[str, Any]) -> dict[str, Any]:
    """A verified claim, which may be one string or a list of them."""
    return {"metadata": jwt.claim(path, {"string_match": wanted})}


def _cidr(value: ValueMatch) -> dict[str, Any]:
    address, _, bits = value.value.partition("/")
    return {"address_prefix": address, "prefix_len": {"value": int(bits)}}
