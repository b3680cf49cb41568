"""Lowers a ReferenceGrant to what link asks before one namespace's object touches another's."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.gateway import schema
from tulle.dialects.validate import validate
from tulle.model.grants import Grant, Granted, Grantee
from tulle.objects import RawObject

GRANTABLE = frozenset({("", "Service"), ("networking.istio.io", "ServiceEntry")})
"""(group, kind) of what other namespaces' objects can claim: names of services."""

ASKING = frozenset({("networking.istio.io", "VirtualService"), ("networking.istio.io", "ServiceEntry")})
"""(group, kind) of the objects that claim them."""


def reference_grant(obj: RawObject) -> Lowered:
    """ReferenceGrant → Grant."""
    findings = Findings(obj)
    parsed = validate(schema.ReferenceGrant, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    for index, each in enumerate(spec.from_):
        if (each.group, each.kind) not in ASKING:
            message = f"no {each.kind} of {each.group or 'the core group'} claims anything: this has no effect"
            findings.warning("without-effect", message, ("spec", "from", index), _known(ASKING))
    for index, to in enumerate(spec.to):
        if (to.group, to.kind) not in GRANTABLE:
            message = f"no {to.kind} of {to.group or 'the core group'} can be claimed: this has no effect"
            findings.warning("without-effect", message, ("spec", "to", index), _known(GRANTABLE))
    grant = Grant(
        meta_of(obj),
        tuple(Grantee(each.group, each.kind, each.namespace) for each in spec.from_),
        tuple(Granted(to.group, to.kind, to.name) for to in spec.to),
    )
    return findings.lowered((grant,))


def _known(kinds: frozenset[tuple[str, str]]) -> str:
    return "what counts here: " + ", ".join(f"{kind} ({group or 'core'})" for group, kind in sorted(kinds))
