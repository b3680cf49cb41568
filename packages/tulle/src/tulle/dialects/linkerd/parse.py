"""What Linkerd's strings mean: identities, networks, references, conditions on requests."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tulle.dialects.fields import check_regex
from tulle.dialects.findings import Findings
from tulle.dialects.linkerd import schema
from tulle.model.access import Attribute, Clause, Condition, ValueKind, ValueMatch
from tulle.model.meta import Labels, labels
from tulle.objects import Path

GROUP = "policy.linkerd.io"

_ACCOUNT = re.compile(r"(\*|[a-z0-9.-]+?)\.([a-z0-9-]+)\.serviceaccount\.identity\.[a-z0-9-]+\..+\Z")


def selected(written: schema.Selector, path: Path, findings: Findings) -> Labels:
    """The labels of a selector; expressions are refused: without them more would be selected than is meant."""
    if written.match_expressions:
        message = "matchExpressions are not supported: select by matchLabels"
        findings.error("unsupported", message, (*path, "matchExpressions"))
    return labels(written.match_labels)


def identity(written: str, path: Path, findings: Findings) -> Clause:
    """`*` is everybody of the mesh; `NAME.NS.serviceaccount.identity.…`, or a SPIFFE id."""
    at = findings.place(path)
    if written == "*":
        return Clause((Condition(at, Attribute.PRINCIPAL, (ValueMatch(ValueKind.PRESENT),)),))
    if written.startswith("spiffe://"):
        value = ValueMatch(ValueKind.EXACT, written.removeprefix("spiffe://"))
        return Clause((Condition(at, Attribute.PRINCIPAL, (value,)),))
    found = _ACCOUNT.match(written)
    if found is None:
        message = f'must be *, NAME.NAMESPACE.serviceaccount.identity.…, or a SPIFFE id, not "{written[:80]}"'
        findings.error("wrong-value", message, path)
        return Clause()
    if found[1] == "*":
        return namespace(found[2], path, findings)
    return account(found[2], found[1], path, findings)


def account(space: str, name: str, path: Path, findings: Findings) -> Clause:
    """A service account."""
    value = ValueMatch(ValueKind.EXACT, f"{space}/{name}")
    return Clause((Condition(findings.place(path), Attribute.ACCOUNT, (value,)),))


def namespace(name: str, path: Path, findings: Findings) -> Clause:
    """Every account of a namespace."""
    value = ValueMatch(ValueKind.EXACT, name)
    return Clause((Condition(findings.place(path), Attribute.NAMESPACE, (value,)),))


def network(written: schema.CidrExcept, path: Path, findings: Findings) -> Clause:
    """A network without its exceptions."""
    at = findings.place(path)
    found = [Condition(at, Attribute.SOURCE_IP, (ValueMatch(ValueKind.CIDR, written.cidr),))]
    if written.except_:
        left_out = tuple(ValueMatch(ValueKind.CIDR, each) for each in written.except_)
        found.append(Condition(at, Attribute.SOURCE_IP, left_out, negated=True))
    return Clause(tuple(found))


def request(match: schema.RouteMatch, hostnames: list[str], path: Path, findings: Findings) -> Clause:
    """One alternative of a route."""
    return Clause(tuple(_conditions(match, hostnames, path, findings)))


def _conditions(
    match: schema.RouteMatch, hostnames: list[str], path: Path, findings: Findings
) -> Iterator[Condition]:
    if match.query_params:
        message = "queryParams are not supported: without the condition more would be allowed than is meant"
        findings.error("unsupported", message, (*path, "queryParams"))
    if hostnames:
        hosts = tuple(value for each in hostnames for value in _host(each))
        yield Condition(findings.place(("spec", "hostnames")), Attribute.HOST, hosts)
    if match.method is not None:
        method = ValueMatch(ValueKind.EXACT, match.method)
        yield Condition(findings.place((*path, "method")), Attribute.METHOD, (method,))
    if match.path is not None and (match.path.type, match.path.value) != ("PathPrefix", "/"):
        values = tuple(_path(match.path, (*path, "path", "value"), findings))
        yield Condition(findings.place((*path, "path")), Attribute.PATH, values)
    for index, header in enumerate(match.headers):
        at = (*path, "headers", index)
        kind = ValueKind.EXACT if header.type == "Exact" else ValueKind.REGEX
        _check(kind, header.value, (*at, "value"), findings)
        value = ValueMatch(kind, header.value)
        yield Condition(findings.place(at), Attribute.HEADER, (value,), key=(header.name.lower(),))


def _host(written: str) -> Iterator[ValueMatch]:
    """The name with any port."""
    if written.startswith("*."):
        yield ValueMatch(ValueKind.SUFFIX, written[1:])
        yield ValueMatch(ValueKind.REGEX, f".*{re.escape(written[1:])}:[0-9]+")
    else:
        yield ValueMatch(ValueKind.EXACT, written)
        yield ValueMatch(ValueKind.PREFIX, f"{written}:")


def _path(written: schema.PathMatch, path: Path, findings: Findings) -> Iterator[ValueMatch]:
    kind = ValueKind.REGEX if written.type == "RegularExpression" else ValueKind.EXACT
    if kind is ValueKind.EXACT and not written.value.startswith("/"):
        findings.error("wrong-value", "must start with /", path)
    _check(kind, written.value, path, findings)
    if written.type == "PathPrefix":
        whole = written.value.rstrip("/")
        yield ValueMatch(ValueKind.EXACT, whole)
        yield ValueMatch(ValueKind.PREFIX, f"{whole}/")
    else:
        yield ValueMatch(kind, written.value)


def _check(kind: ValueKind, value: str, path: Path, findings: Findings) -> None:
    if kind is ValueKind.REGEX:
        try:
            check_regex(value)
        except ValueError as error:
            findings.error("wrong-value", str(error), path)
