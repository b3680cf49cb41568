"""Access policies of one port as RBAC filters, for requests and for connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tulle.model.access import AccessAction, AccessPolicy, AccessRule, Attribute, Clause, Condition, Guard
from tulle.model.workloads import WorkloadRef
from tulle.xds import names
from tulle.xds.filters.rbac_terms import is_of_the_call, permission, principal
from tulle.xds.wire import extension, typed

NAME = "envoy.filters.http.rbac"
NETWORK_NAME = "envoy.filters.network.rbac"
HTTP = "envoy.extensions.filters.http.rbac.v3.RBAC"
_HTTP_RULES = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
NETWORK = "envoy.extensions.filters.network.rbac.v3.RBAC"

_SELECTING = AccessAction.DENY
"""What CUSTOM rules are read as: in doubt they select."""

_WORDS = {AccessAction.DENY: "DENY", AccessAction.ALLOW: "ALLOW", AccessAction.AUDIT: "LOG"}

ANYTHING = {"permissions": [{"any": True}], "principals": [{"any": True}]}


def http_filters(guard: Guard, port: int) -> Iterator[dict[str, Any]]:
    """One filter for each action that some policy asks for: DENY, ALLOW, AUDIT."""
    for action in _WORDS:
        fields = _http_fields(guard, action, port)
        if fields:
            yield extension(NAME, HTTP, **fields)


def slots() -> list[dict[str, Any]]:
    """The same filters without rules, for data planes whose route tables have those."""
    # What is counted of a route's rules is counted under the filter's own prefix.
    return [
        extension(names.access_slot(action), HTTP, shadow_rules_stat_prefix=names.dry_run_prefix(action))
        for action in _WORDS
    ]


def slot_rules(guard: Guard, port: int) -> dict[str, Any]:
    """What a route table says to `slots`: the rules by the filter's name."""
    found = ((action, _http_fields(guard, action, port)) for action in _WORDS)
    return {names.access_slot(action): typed(_HTTP_RULES, rbac=fields) for action, fields in found if fields}


def network_filters(guard: Guard, port: int, stat_prefix: str) -> Iterator[dict[str, Any]]:
    """The same for a connection of which no request can be read."""
    for action in _WORDS:
        fields = _fields(guard.access, action, port, _without_http)
        if fields:
            yield extension(NETWORK_NAME, NETWORK, stat_prefix=f"{stat_prefix}.", **fields)


def selecting(policies: Iterable[AccessPolicy], port: int) -> dict[str, dict[str, Any]]:
    """The rules of CUSTOM policies."""
    return dict(_rules(policies, port, _whole))


def selecting_connections(policies: Iterable[AccessPolicy], port: int) -> dict[str, dict[str, Any]]:
    """The same for connections: in doubt they select."""
    return dict(_rules(policies, port, _without_http))


def refuse_connections(rules: dict[str, dict[str, Any]], stat_prefix: str) -> dict[str, Any]:
    """A filter that denies the connections that rules select."""
    denied = {"action": "DENY", "policies": rules}
    return extension(NETWORK_NAME, NETWORK, stat_prefix=f"{stat_prefix}.", rules=denied)


def refuse_peers(workloads: Iterable[WorkloadRef], domains: Sequence[str], stat_prefix: str) -> dict[str, Any]:
    """A filter that denies connections of these workloads, by their certificates: the subject names the workload."""
    denied = {names.revoked_peer(each.namespace, each.name): _certified(each, domains) for each in workloads}
    return refuse_connections(denied, stat_prefix)


def _certified(workload: WorkloadRef, domains: Sequence[str]) -> dict[str, Any]:
    """A Policy that any certificate of a workload meets, whatever its account. The name is what a subject ends with
    (RFC 2253 writes the first part last).
    """
    prefixes = [{"prefix": f"spiffe://{domain}/ns/{workload.namespace}/sa/"} for domain in domains]
    subject = {"select_expr": {"operand": {"ident_expr": {"name": "connection"}}, "field": "subject_peer_certificate"}}
    name = f"CN={workload.name}"
    whole = {"function": "_==_", "args": [subject, {"const_expr": {"string_value": name}}]}
    ends = {"target": subject, "function": "endsWith", "args": [{"const_expr": {"string_value": f",{name}"}}]}
    either = {"function": "_||_", "args": [{"call_expr": whole}, {"call_expr": ends}]}
    return {
        "permissions": [{"any": True}],
        "principals": [{"authenticated": {"principal_name": each}} for each in prefixes],
        "condition": {"call_expr": either},
    }


def refuse_everything(name: str) -> dict[str, Any]:
    """A filter that denies every request by a rule of this name."""
    return extension(NAME, HTTP, rules={"action": "DENY", "policies": {name: ANYTHING}})


def _whole(rule: AccessRule, action: AccessAction) -> AccessRule | None:
    return rule


def _without_http(rule: AccessRule, action: AccessAction) -> AccessRule | None:
    """What a connection can be asked, erring to the strict side as Istio does: an ALLOW rule that asks about
    requests holds for no connection, a DENY rule is asked for the rest of its conditions.
    """
    clauses = (*(rule.callers or ()), *(rule.operations or ()), rule.when)
    if not any(each.attribute.http_only for clause in clauses for each in clause.conditions):
        return rule
    if action is not AccessAction.DENY:
        return None
    return replace(
        rule,
        callers=None if rule.callers is None else tuple(map(_without_http_conditions, rule.callers)),
        operations=None if rule.operations is None else tuple(map(_without_http_conditions, rule.operations)),
        when=_without_http_conditions(rule.when),
    )


def _without_http_conditions(clause: Clause) -> Clause:
    return Clause(tuple(each for each in clause.conditions if not each.attribute.http_only))


def _http_fields(guard: Guard, action: AccessAction, port: int) -> dict[str, Any]:
    """The same for requests; dry runs are counted by policy."""
    fields = _fields(guard.access, action, port, _whole)
    return {**fields, "track_per_rule_stats": True} if "shadow_rules" in fields else fields


def _fields(access: Iterable[AccessPolicy], action: AccessAction, port: int, reduce: Any) -> dict[str, Any]:
    """`rules` of the policies in force and `shadow_rules` of dry runs; nothing when there is nothing to ask."""
    fields: dict[str, Any] = {}
    for shadow in (False, True):
        policies = [each for each in access if each.action is action and each.dry_run is shadow]
        rules = dict(_rules(policies, port, reduce))
        # an ALLOW policy refuses what it does not name, even where it names nothing
        if not rules and not (policies and action is AccessAction.ALLOW):
            continue
        fields["shadow_rules" if shadow else "rules"] = {"action": _WORDS[action], "policies": rules}
        if shadow:
            fields["shadow_rules_stat_prefix"] = names.dry_run_prefix(action)
    return fields


def _rules(policies: Iterable[AccessPolicy], port: int, reduce: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    seen: dict[str, int] = {}
    for policy in policies:
        for index, rule in enumerate(policy.rules):
            action = _SELECTING if policy.action is AccessAction.CUSTOM else policy.action
            reduced = reduce(rule, action)
            here = None if reduced is None else _at_port(reduced, port)
            if here is not None:
                meta = policy.meta
                name = names.access_rule(meta.kind, meta.namespace, meta.name, index)
                seen[name] = seen.get(name, 0) + 1
                # kinds of two dialects may share a name, and one object may say several things of a port
                yield name if seen[name] == 1 else f"{name}-{seen[name]}", _policy(here)


def _policy(rule: AccessRule) -> dict[str, Any]:
    """An RBAC Policy: one of the permissions and one of the principals."""
    of_the_call = tuple(each for each in rule.when.conditions if is_of_the_call(each))
    of_the_caller = tuple(each for each in rule.when.conditions if not is_of_the_call(each))
    operations = rule.operations if rule.operations is not None else (Clause(),)
    callers = rule.callers if rule.callers is not None else (Clause(),)
    return {
        "permissions": [permission(Clause(each.conditions + of_the_call)) for each in operations],
        "principals": [principal(Clause(each.conditions + of_the_caller)) for each in callers],
    }


def _at_port(rule: AccessRule, port: int) -> AccessRule | None:
    """The rule for one application port, its conditions on ports decided; None when it cannot hold there.

    They are decided here because the port a connection arrives at is the sidecar's, not the application's.
    """
    when = _clause_at_port(rule.when, port)
    operations = rule.operations
    if operations is not None:
        decided = (_clause_at_port(each, port) for each in operations)
        operations = tuple(each for each in decided if each is not None)
    if when is None or operations == () or rule.callers == ():
        return None
    return replace(rule, when=when, operations=operations)


def _clause_at_port(clause: Clause, port: int) -> Clause | None:
    kept: list[Condition] = []
    for each in clause.conditions:
        if each.attribute is not Attribute.PORT:
            kept.append(each)
        elif any(value.value == str(port) for value in each.values) is each.negated:
            return None
    return Clause(tuple(kept))
