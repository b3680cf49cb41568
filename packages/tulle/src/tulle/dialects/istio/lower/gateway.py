"""Checks an Istio Gateway; no gateway is run yet, and it says so."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings
from tulle.dialects.istio.schema.gateway import Gateway
from tulle.dialects.validate import validate
from tulle.objects import RawObject


def gateway(obj: RawObject) -> Lowered:
    """Gateway → nothing yet, with a warning."""
    findings = Findings(obj)
    if validate(Gateway, findings) is not None:
        message = "gateways are not run yet: routes attached to this one serve nobody"
        findings.warning("unsupported", message, ("kind",))
    return findings.lowered(())
