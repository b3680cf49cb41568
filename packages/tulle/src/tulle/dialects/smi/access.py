"""Lowers a TrafficTarget to an ALLOW policy of the destination's account: what no target allows is refused."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.smi import schema
from tulle.dialects.validate import validate
from tulle.model.access import (
    AccessAction,
    AccessPolicy,
    AccessRule,
    AccessTarget,
    Attribute,
    Clause,
    Condition,
    OperationsRef,
    ValueKind,
    ValueMatch,
)
from tulle.objects import Path, RawObject


def traffic_target(obj: RawObject) -> Lowered:
    """TrafficTarget → AccessPolicy."""
    findings = Findings(obj)
    parsed = validate(schema.TrafficTarget, findings)
    if parsed is None:
        return findings.lowered(())
    found = _spec(parsed, findings)
    if found is None:
        return findings.lowered(())
    spec, base = found
    destination = spec.destination
    namespace = destination.namespace or obj.namespace
    if namespace != obj.namespace:
        message = f"the target must be in the destination's namespace {namespace}, not in {obj.namespace}"
        findings.error("wrong-value", message, (*base, "destination", "namespace"))
    policy = AccessPolicy(
        meta_of(obj),
        AccessAction.ALLOW,
        (_rule(spec, base, findings),),
        AccessTarget(account=f"{namespace}/{destination.name}"),
    )
    return findings.lowered((policy,))


def _spec(parsed: schema.TrafficTarget, findings: Findings) -> tuple[schema.TrafficTargetSpec, Path] | None:
    if parsed.spec is not None:
        if parsed.destination or parsed.sources or parsed.rules or parsed.specs:
            findings.error(
                "conflicting-fields", "must say everything in spec, or everything at the top", ("spec",)
            )
        return parsed.spec, ("spec",)
    if parsed.destination is None or parsed.sources is None:
        findings.error(
            "missing-field", "must say destination and sources, in spec or (v1alpha1) at the top", ()
        )
        return None
    top = schema.TrafficTargetSpec(
        destination=parsed.destination, sources=parsed.sources, rules=parsed.rules, specs=parsed.specs
    )
    return top, ()


def _rule(spec: schema.TrafficTargetSpec, base: Path, findings: Findings) -> AccessRule:
    """Every source may do everything that the rules name, on the port; without rules, anything."""
    own = findings.obj.namespace
    accounts = tuple(
        ValueMatch(ValueKind.EXACT, f"{each.namespace or own}/{each.name}") for each in spec.sources
    )
    sources = Condition(findings.place((*base, "sources")), Attribute.ACCOUNT, accounts)
    when: tuple[Condition, ...] = ()
    if spec.destination.port is not None:
        at = findings.place((*base, "destination", "port"))
        port = ValueMatch(ValueKind.EXACT, str(int(spec.destination.port)))
        when = (Condition(at, Attribute.PORT, (port,)),)
    refers = tuple(
        OperationsRef(findings.place((*base, field, index)), each.kind, own, each.name, tuple(each.matches))
        for field, written in (("rules", spec.rules), ("specs", spec.specs))
        for index, each in enumerate(written)
    )
    return AccessRule(
        findings.place((*base, "sources")), (Clause((sources,)),), when=Clause(when), refers=refers
    )
