"""The strings that authorization rules are made of: wildcards, path templates, condition keys."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tulle.dialects.fields import is_ip
from tulle.dialects.findings import Findings, did_you_mean
from tulle.model.access import Attribute, Condition, ValueKind, ValueMatch
from tulle.objects import Path

_KEYS = {
    str(attribute): attribute
    for attribute in (
        Attribute.SOURCE_IP,
        Attribute.REMOTE_IP,
        Attribute.NAMESPACE,
        Attribute.PRINCIPAL,
        Attribute.ACCOUNT,
        Attribute.REQUEST_PRINCIPAL,
        Attribute.AUDIENCE,
        Attribute.PRESENTER,
        Attribute.DESTINATION_IP,
        Attribute.PORT,
        Attribute.SNI,
    )
}
_BRACKETS = re.compile(r"\[([^\[\]]+)\]")
_TEMPLATE = re.compile(r"\{\*\*?\}")
_BLOCKS = frozenset({Attribute.SOURCE_IP, Attribute.REMOTE_IP, Attribute.DESTINATION_IP})


def condition(
    attribute: Attribute,
    values: Sequence[str],
    path: Path,
    findings: Findings,
    *,
    negated: bool,
    key: tuple[str, ...] = (),
) -> Condition:
    """One condition at ``path``, which is the list's."""
    lowered = tuple(_value(attribute, value, (*path, index), findings) for index, value in enumerate(values))
    return Condition(findings.place(path), attribute, lowered, negated, key)


def attribute_of(key: str, path: Path, findings: Findings) -> tuple[Attribute, tuple[str, ...]] | None:
    """The attribute that a ``when`` names, with the header's or claim's own name; None, with an error, for others."""
    if key in _KEYS:
        return _KEYS[key], ()
    for attribute in (Attribute.HEADER, Attribute.CLAIM):
        if key.startswith(f"{attribute}["):
            names = tuple(_BRACKETS.findall(key))
            if key != str(attribute) + "".join(f"[{name}]" for name in names):
                break
            if attribute is Attribute.CLAIM:
                return attribute, names
            if len(names) == 1:
                return attribute, (names[0].lower(),)
    if key.startswith("experimental."):
        findings.error("unsupported", "metadata of Envoy's filters is not supported yet", path)
        return None
    known = [*_KEYS, "request.headers[NAME]", "request.auth.claims[NAME]"]
    findings.error("wrong-value", f'"{key[:100]}" is not a key', path, did_you_mean(key[:100], known))
    return None


def _value(attribute: Attribute, value: str, path: Path, findings: Findings) -> ValueMatch:
    if attribute in _BLOCKS:
        return ValueMatch(ValueKind.CIDR, _network(value, path, findings))
    if attribute is Attribute.PORT:
        if not (value.isascii() and value.isdecimal() and 1 <= int(value) <= 65535):
            findings.error("wrong-value", f'must be a port, not "{value[:60]}"', path)
        return ValueMatch(ValueKind.EXACT, value)
    if attribute is Attribute.ACCOUNT:
        return ValueMatch(ValueKind.EXACT, _account(value, path, findings))
    if attribute is Attribute.PATH and ("{" in value or "}" in value):
        return _template(value, path, findings)
    if value == "*":
        return ValueMatch(ValueKind.PRESENT)
    inner = value
    kind = ValueKind.EXACT
    if value.startswith("*"):
        kind, inner = ValueKind.SUFFIX, value[1:]
    elif value.endswith("*"):
        kind, inner = ValueKind.PREFIX, value[:-1]
    if "*" in inner:
        message = f'only a "*" at the start or at the end is a wildcard; in "{value[:60]}" another is literal'
        findings.warning("literal-wildcard", message, path)
    return ValueMatch(kind, inner)


def _template(value: str, path: Path, findings: Findings) -> ValueMatch:
    rest = _TEMPLATE.sub("", value)
    after = value.partition("{**}")[2]
    if "*" in rest or "{" in rest or "}" in rest:
        message = "a path with {*} or {**} has no other wildcard or brace"
        findings.error("wrong-value", message, path)
    elif not value.startswith("/") or any(
        not _TEMPLATE.fullmatch(part) and _TEMPLATE.search(part) for part in value.split("/")
    ):
        findings.error(
            "wrong-value", "{*} and {**} stand for whole segments of a path that starts with /", path
        )
    elif _TEMPLATE.search(after):
        findings.error("wrong-value", "{**} must be the last of a path's templates", path)
    return ValueMatch(ValueKind.TEMPLATE, value)


def _account(value: str, path: Path, findings: Findings) -> str:
    """``namespace/name``; without a namespace, that of the policy."""
    if value.count("/") > 1 or "*" in value or value.startswith("/") or value.endswith("/"):
        message = f'must be NAME or NAMESPACE/NAME of a service account, not "{value[:60]}"'
        findings.error("wrong-value", message, path, "principals take wildcards")
    return value if "/" in value else f"{findings.obj.namespace}/{value}"


def _network(value: str, path: Path, findings: Findings) -> str:
    address, slash, bits = value.partition("/")
    widest = 128 if ":" in address else 32
    good = is_ip(address) and (not slash or (bits.isdecimal() and int(bits) <= widest))
    if not good:
        findings.error("wrong-value", f'must be an IP address or network, not "{value[:60]}"', path)
    return value if slash else f"{value}/{widest}"
