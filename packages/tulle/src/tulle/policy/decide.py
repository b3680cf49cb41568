"""Judges one call by the policies of a port, as naively as they read: the reference for every data plane."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from tulle.model.access import (
    AccessAction,
    AccessPolicy,
    AccessRule,
    Attribute,
    Clause,
    Condition,
    Guard,
    PeerMode,
    ValueKind,
    ValueMatch,
)
from tulle.model.source import SourceRef
from tulle.policy.request import Call, HttpRequest

_IDENTITY = re.compile(r"[^/]+/ns/([^/]+)/sa/([^/]+)\Z")


@dataclass(frozen=True, slots=True)
class Reason:
    """A policy that decided or would have, and the rule (by its index and place) if one did."""

    policy: AccessPolicy
    rule: int | None = None

    @property
    def source(self) -> SourceRef:
        """Where it is written."""
        return self.policy.meta.source if self.rule is None else self.policy.rules[self.rule].source

    def __str__(self) -> str:
        return str(self.policy.meta) + ("" if self.rule is None else f", rule {self.rule}")


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer; `reasons` decided it (none: nothing guards the port), `audited` marked it, `dry_run` say what
    policies that only report would have refused it, `asked` has its provider asked first.
    """

    allowed: bool
    why: str
    reasons: tuple[Reason, ...] = ()
    audited: tuple[Reason, ...] = ()
    dry_run: tuple[Reason, ...] = ()
    asked: tuple[Reason, ...] = ()


def decide(guard: Guard, call: Call) -> Decision:
    """Whether the call gets through. Connections first, then DENY, then ALLOW."""
    if guard.mode is PeerMode.STRICT and call.principal is None:
        return Decision(
            allowed=False, why="the port takes mutual TLS only (STRICT), and the call is in plaintext"
        )
    if guard.mode is PeerMode.DISABLE and call.principal is not None:
        raise ValueError("a port without mutual TLS knows no caller")
    in_force = tuple(each for each in guard.access if not each.dry_run)
    asked = tuple(_matching(in_force, AccessAction.CUSTOM, call))
    unaskable = _unaskable(in_force, asked, call)
    if unaskable is not None:
        return unaskable
    denied = _judge(in_force, call)
    if asked and denied.allowed:
        providers = ", ".join(dict.fromkeys(f"{each.policy.provider}" for each in asked))
        denied = replace(denied, why=f"{denied.why}, if {providers} allows it")
    dry = tuple(each for each in guard.access if each.dry_run)
    would = _judge(dry, call)
    audited = tuple(_matching(in_force, AccessAction.AUDIT, call)) if denied.allowed else ()
    shadows = () if would.allowed else would.reasons
    return Decision(denied.allowed, denied.why, denied.reasons, audited, shadows, asked)


def _unaskable(
    policies: tuple[AccessPolicy, ...], asked: tuple[Reason, ...], call: Call
) -> Decision | None:
    """The refusal where an authorizer should be asked and cannot be."""
    for policy in policies:
        if policy.action is AccessAction.CUSTOM and policy.authorizer is None and call.http is not None:
            why = f"{policy.provider} should be asked, and there is no such provider"
            return Decision(allowed=False, why=why, reasons=(Reason(policy),))
    if asked and call.http is None:
        why = "a CUSTOM rule matches, and its provider can be asked about requests only"
        return Decision(allowed=False, why=why, reasons=asked[:1])
    return None


def _judge(policies: tuple[AccessPolicy, ...], call: Call) -> Decision:
    denied = next(_matching(policies, AccessAction.DENY, call), None)
    if denied is not None:
        return Decision(allowed=False, why="a DENY rule matches", reasons=(denied,))
    allowing = tuple(each for each in policies if each.action is AccessAction.ALLOW)
    if not allowing:
        return Decision(allowed=True, why="no ALLOW policy is for this port")
    allowed = next(_matching(policies, AccessAction.ALLOW, call), None)
    if allowed is not None:
        return Decision(allowed=True, why="an ALLOW rule matches", reasons=(allowed,))
    return Decision(
        allowed=False, why="no ALLOW rule matches", reasons=tuple(Reason(each) for each in allowing)
    )


def _matching(policies: tuple[AccessPolicy, ...], action: AccessAction, call: Call) -> Iterator[Reason]:
    for policy in policies:
        if policy.action is action:
            for index, rule in enumerate(policy.rules):
                if _rule_holds(rule, action, call):
                    yield Reason(policy, index)


def _rule_holds(rule: AccessRule, action: AccessAction, call: Call) -> bool:
    clauses = (*(rule.callers or ()), *(rule.operations or ()), rule.when)
    asks_http = any(each.attribute.http_only for clause in clauses for each in clause.conditions)
    if call.http is None and asks_http and action not in (AccessAction.DENY, AccessAction.CUSTOM):
        return False
    return (
        (rule.callers is None or any(_clause_holds(each, call) for each in rule.callers))
        and (rule.operations is None or any(_clause_holds(each, call) for each in rule.operations))
        and _clause_holds(rule.when, call)
    )


def _clause_holds(clause: Clause, call: Call) -> bool:
    return all(_condition_holds(each, call) for each in clause.conditions)


def _condition_holds(condition: Condition, call: Call) -> bool:
    if condition.attribute.http_only and call.http is None:
        return True  # only DENY rules get here: they are asked for the rest
    actual = list(_actual(condition, call))
    values = [each for each in condition.values if not _asks_in_vain(condition.attribute, each, call)]
    found = any(_matches(condition.attribute, value, each) for value in values for each in actual)
    return found is not condition.negated


def _asks_in_vain(attribute: Attribute, value: ValueMatch, call: Call) -> bool:
    """Any principal of a token (`*`) is one of an issuer and of a subject, neither of them empty."""
    claims = call.http.claims if call.http is not None else None
    anybody = attribute is Attribute.REQUEST_PRINCIPAL and value.kind is ValueKind.PRESENT
    return anybody and not (claims and claims.get("iss") and claims.get("sub"))


def _actual(condition: Condition, call: Call) -> Iterator[str]:
    """The values that the call has of the attribute: none when it is absent."""
    identity = _IDENTITY.match(call.principal or "")
    match condition.attribute:
        case Attribute.PRINCIPAL if call.principal is not None:
            yield call.principal
        case Attribute.NAMESPACE if identity is not None:
            yield identity[1]
        case Attribute.ACCOUNT if identity is not None:
            yield f"{identity[1]}/{identity[2]}"
        case Attribute.SOURCE_IP:
            yield call.source_ip
        case Attribute.REMOTE_IP:
            yield call.remote_ip
        case Attribute.DESTINATION_IP:
            yield call.destination_ip
        case Attribute.PORT:
            yield str(call.port)
        case Attribute.SNI:
            yield call.server_name
        case _ if call.http is not None:
            yield from _of_request(condition, call.http)


def _of_request(condition: Condition, request: HttpRequest) -> Iterator[str]:
    claims = request.claims or {}
    match condition.attribute:
        case Attribute.METHOD:
            yield request.method
        case Attribute.PATH:
            yield request.path
        case Attribute.HOST:
            yield request.host
            yield _without_port(request.host)
        case Attribute.HEADER:
            if condition.key[0] in request.headers:
                yield request.headers[condition.key[0]]
        case Attribute.REQUEST_PRINCIPAL:
            if isinstance(claims.get("iss"), str) and isinstance(claims.get("sub"), str):
                yield f"{claims['iss']}/{claims['sub']}"
        case Attribute.AUDIENCE:
            yield from _strings(claims.get("aud"))
        case Attribute.PRESENTER:
            yield from _strings(claims.get("azp"))
        case Attribute.CLAIM:
            found: object = claims
            for key in condition.key:
                found = found.get(key) if isinstance(found, dict) else None
            yield from _strings(found)


def _without_port(host: str) -> str:
    """A host that a policy names without a port is that host on every port."""
    address, bracket, _ = host.partition("]")
    return address + bracket if bracket else host.partition(":")[0]


def _strings(claim: object) -> Iterator[str]:
    if isinstance(claim, str):
        yield claim
    elif isinstance(claim, list):
        yield from (each for each in claim if isinstance(each, str))


def _matches(attribute: Attribute, wanted: ValueMatch, actual: str) -> bool:
    value = wanted.value
    if attribute is Attribute.HOST:
        value, actual = value.lower(), actual.lower()
    match wanted.kind:
        case ValueKind.EXACT:
            return actual == value
        case ValueKind.PREFIX:
            return actual.startswith(value)
        case ValueKind.SUFFIX:
            return actual.endswith(value)
        case ValueKind.PRESENT:
            return attribute is Attribute.HEADER or actual != ""
        case ValueKind.REGEX:
            return re.fullmatch(value, actual) is not None
        case ValueKind.TEMPLATE:
            return _template_matches(value.split("/"), actual.split("/"))
        case ValueKind.CIDR:
            return _within(_address(actual), _network(value))


def _template_matches(wanted: list[str], actual: list[str]) -> bool:
    """Segment by segment: `{*}` is one that is not empty, `{**}` any number of them."""
    if not wanted:
        return not actual
    if wanted[0] == "{**}":
        return any(_template_matches(wanted[1:], actual[taken:]) for taken in range(1, len(actual) + 1))
    if not actual or (wanted[0] == "{*}" and not actual[0]) or wanted[0] not in ("{*}", actual[0]):
        return False
    return _template_matches(wanted[1:], actual[1:])


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=1024)
def _address(text: str) -> Address:
    return ipaddress.ip_address(text)


@lru_cache(maxsize=1024)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text, strict=False)


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
