"""The conditions that this dialect's objects carry."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.dialects.status import Condition, accepted
from tulle.model.diagnostics import Diagnostic

TYPE = "Accepted"


def conditions(diagnostics: Sequence[Diagnostic]) -> tuple[Condition, ...]:
    """Whether the object is in force. The name that the Gateway API gave to it."""
    return (accepted(TYPE, diagnostics),)
