"""Lowers an AuthorizationPolicy to an AccessPolicy."""

from __future__ import annotations

from collections.abc import Iterator

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.istio.lower.access_values import attribute_of, condition
from tulle.dialects.istio.lower.targets import target
from tulle.dialects.istio.schema import security as schema
from tulle.dialects.validate import validate
from tulle.model.access import AccessAction, AccessPolicy, AccessRule, Attribute, Clause, Condition
from tulle.objects import Path, RawObject

DRY_RUN = "istio.io/dry-run"

_ACTIONS = {str(action).upper(): action for action in AccessAction}

_SOURCE = (
    ("principals", Attribute.PRINCIPAL),
    ("requestPrincipals", Attribute.REQUEST_PRINCIPAL),
    ("namespaces", Attribute.NAMESPACE),
    ("serviceAccounts", Attribute.ACCOUNT),
    ("ipBlocks", Attribute.SOURCE_IP),
    ("remoteIpBlocks", Attribute.REMOTE_IP),
)
_OPERATION = (
    ("hosts", Attribute.HOST),
    ("ports", Attribute.PORT),
    ("methods", Attribute.METHOD),
    ("paths", Attribute.PATH),
)


def authorization_policy(obj: RawObject) -> Lowered:
    """AuthorizationPolicy → AccessPolicy."""
    findings = Findings(obj)
    parsed = validate(schema.AuthorizationPolicy, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    chosen = target(spec.selector, spec.target_ref, spec.target_refs, findings)
    _check(spec, findings)
    rules = tuple(_rule(rule, ("spec", "rules", index), findings) for index, rule in enumerate(spec.rules))
    dry_run = _dry_run(obj, findings)
    if chosen is None:
        return findings.lowered(())
    if dry_run and spec.action == "CUSTOM":
        message = "a CUSTOM policy has no dry run: its authorizer would have to be asked"
        findings.error("conflicting-fields", message, ("metadata", "annotations", DRY_RUN))
    provider = spec.provider.name if spec.provider else None
    policy = AccessPolicy(meta_of(obj), _ACTIONS[spec.action], rules, chosen, dry_run, provider)
    return findings.lowered((policy,))


def _check(spec: schema.AuthorizationPolicySpec, findings: Findings) -> None:
    if spec.action == "CUSTOM" and spec.provider is None:
        message = "action CUSTOM must say which of MeshConfig's extensionProviders decides"
        findings.error("missing-field", message, ("spec",), "provider: {name: NAME}")
    if spec.provider is not None and spec.action != "CUSTOM":
        findings.error("conflicting-fields", "provider goes with action CUSTOM only", ("spec", "provider"))
    if not spec.rules and spec.action != "ALLOW":
        message = f"a {spec.action} policy without rules matches nothing and has no effect"
        findings.warning("no-effect", message, ("spec",), "rules: [{}] matches everything")


def _dry_run(obj: RawObject, findings: Findings) -> bool:
    written = obj.annotations.get(DRY_RUN)
    if written not in (None, "true", "false"):
        path = ("metadata", "annotations", DRY_RUN)
        findings.error("wrong-value", f'must be "true" or "false", not "{written[:20]}"', path)
    return written == "true"


def _rule(rule: schema.Rule, path: Path, findings: Findings) -> AccessRule:
    callers = operations = None
    if rule.from_ is not None:
        callers = tuple(
            Clause(tuple(_conditions(each.source, _SOURCE, (*path, "from", index, "source"), findings)))
            for index, each in enumerate(rule.from_)
        )
    if rule.to is not None:
        operations = tuple(
            Clause(
                tuple(_conditions(each.operation, _OPERATION, (*path, "to", index, "operation"), findings))
            )
            for index, each in enumerate(rule.to)
        )
    return AccessRule(findings.place(path), callers, operations, _when(rule, path, findings))


def _conditions(
    written: schema.Source | schema.Operation,
    fields: tuple[tuple[str, Attribute], ...],
    path: Path,
    findings: Findings,
) -> Iterator[Condition]:
    if not written.model_fields_set:
        what = "source" if isinstance(written, schema.Source) else "operation"
        findings.error(
            "missing-field", f"an empty {what} would match everything", path, f"leave the {what} out"
        )
    said = written.model_dump(by_alias=True, exclude_none=True)
    for name, attribute in fields:
        opposite = f"not{name[0].upper()}{name[1:]}"
        if name in said:
            yield condition(attribute, said[name], (*path, name), findings, negated=False)
        if opposite in said:
            yield condition(attribute, said[opposite], (*path, opposite), findings, negated=True)
    accounts = "serviceAccounts" in said or "notServiceAccounts" in said
    if accounts and said.keys() & {"principals", "notPrincipals", "namespaces", "notNamespaces"}:
        message = "serviceAccounts cannot be together with principals or namespaces"
        findings.error("conflicting-fields", message, path)


def _when(rule: schema.Rule, path: Path, findings: Findings) -> Clause:
    found: list[Condition] = []
    for index, each in enumerate(rule.when or ()):
        at = (*path, "when", index)
        known = attribute_of(each.key, (*at, "key"), findings)
        if each.values is None and each.not_values is None:
            findings.error("missing-field", "must say values or notValues", at)
        if known is None:
            continue
        attribute, key = known
        if each.values is not None:
            found.append(condition(attribute, each.values, (*at, "values"), findings, negated=False, key=key))
        if each.not_values is not None:
            found.append(
                condition(attribute, each.not_values, (*at, "notValues"), findings, negated=True, key=key)
            )
    return Clause(tuple(found))
