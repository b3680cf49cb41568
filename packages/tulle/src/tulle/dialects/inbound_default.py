"""Linkerd's annotation for who may call where nothing is granted, on workloads and namespaces."""

from __future__ import annotations

from tulle.dialects.findings import Findings, did_you_mean
from tulle.model.servers import InboundDefault

ANNOTATION = "config.linkerd.io/default-inbound-policy"


def inbound_default(findings: Findings) -> InboundDefault | None:
    """What the object's annotation says; an error for a word that is none."""
    written = findings.obj.annotations.get(ANNOTATION)
    if written is None:
        return None
    known = [str(each) for each in InboundDefault]
    if written not in known:
        path = ("metadata", "annotations", ANNOTATION)
        findings.error("wrong-value", f'"{written[:60]}" is no policy', path, did_you_mean(written[:60], known))
        return None
    return InboundDefault(written)
