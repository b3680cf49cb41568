"""Istio's exportTo, which Kubernetes Services say by annotation."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.dialects.findings import Findings
from tulle.model.meta import PUBLIC, Visibility
from tulle.objects import Path


def visibility(names: Sequence[str], namespace: str, path: Path, findings: Findings) -> Visibility:
    """``*`` is everywhere, ``.`` the object's own namespace, ``~`` nowhere, anything else a namespace."""
    if not names or "*" in names:
        if len(names) > 1:
            findings.warning("redundant", "'*' already means every namespace", path)
        return PUBLIC
    if "~" in names:
        return Visibility(public=False)
    chosen = {namespace if name == "." else name for name in names}
    return Visibility(public=False, namespaces=tuple(sorted(chosen)))
