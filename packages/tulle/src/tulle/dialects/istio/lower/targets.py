"""Which workloads a security policy is for: everything, those it selects, those behind a service."""

from __future__ import annotations

from tulle.dialects.findings import Findings
from tulle.dialects.istio.schema import security as schema
from tulle.dialects.istio.schema.common import LabelSelector
from tulle.model.access import AccessTarget
from tulle.model.meta import labels


def target(
    selector: LabelSelector | None,
    single: schema.TargetRef | None,
    several: list[schema.TargetRef],
    findings: Findings,
) -> AccessTarget | None:
    """The target; None when the policy is for gateways only, which are not run yet."""
    refs = [(single, ("spec", "targetRef"))] if single is not None else []
    refs += [(ref, ("spec", "targetRefs", index)) for index, ref in enumerate(several)]  # type: ignore[misc]
    if selector is not None and refs:
        message = "must say only one of selector and targetRefs"
        findings.error("conflicting-fields", message, ("spec", "selector"))
    if not refs:
        return AccessTarget(labels(selector.match_labels) if selector else ())
    services = []
    for ref, path in refs:
        if ref.namespace not in (None, findings.obj.namespace):
            findings.error(
                "wrong-value", "a target must be in the policy's own namespace", (*path, "namespace")
            )
        if (ref.group, ref.kind) in (("", "Service"), ("core", "Service")):
            services.append(f"{ref.name}.{findings.obj.namespace}")
        elif ref.kind in ("Gateway", "GatewayClass"):
            message = f"gateways are not run yet: the policy guards nothing at {ref.kind} {ref.name}"
            findings.warning("unsupported", message, path)
        else:
            message = f"a policy cannot be attached to a {ref.kind}"
            findings.error("wrong-value", message, (*path, "kind"), "attach it to a Service, or use selector")
    return AccessTarget(services=tuple(services)) if services else None
