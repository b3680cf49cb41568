"""What an object's owner is told about it, in the form that every Kubernetes-shaped kind uses: conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tulle.model.diagnostics import Diagnostic, Severity


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of ``status.conditions``; ``status`` is True or False as the API writes it, "True" or "False"."""

    type: str
    status: str
    reason: str
    message: str


def accepted(type_: str, diagnostics: Sequence[Diagnostic]) -> Condition:
    """The condition ``type_``, false when any finding refuses the object; the message has every finding."""
    severities = {found.severity for found in diagnostics}
    message = "\n".join(str(found) for found in diagnostics)
    if Severity.ERROR in severities:
        return Condition(type_, "False", "Invalid", message)
    if Severity.WARNING in severities:
        return Condition(type_, "True", "AcceptedWithWarnings", message)
    return Condition(type_, "True", "Accepted", message)
