"""Findings about a configuration: what was wrong, where, and what would be right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulle.model.source import SourceRef


class Severity(StrEnum):
    """ERROR refuses the object it names; WARNING and INFO leave it in force."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    `code` is a stable kebab-case name (`unknown-subset`); `field` a dotted path within the object
    (`spec.http[0].route[1].destination.subset`); `hint` says what would be right; `related` are the
    other places involved, for instance both sides of a conflict.
    """

    severity: Severity
    code: str
    message: str
    source: SourceRef
    field: str | None = None
    hint: str | None = None
    related: tuple[SourceRef, ...] = ()

    def __str__(self) -> str:
        text = f"{self.source}: {self.severity}: "
        if self.field is not None:
            text += f"{self.field}: "
        text += self.message
        for other in self.related:
            text += f" (see {other})"
        if self.hint is not None:
            text += f"; {self.hint}"
        return f"{text} [{self.code}]"
