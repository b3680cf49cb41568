"""Collects what is found while an object is read, each finding with the place of the value it is about."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import timedelta

from tulle.dialects.base import Lowered
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.fragments import Fragment
from tulle.model.meta import Meta
from tulle.model.source import SourceRef
from tulle.objects import Path, RawObject


class Findings:
    """The diagnostics of one object."""

    def __init__(self, obj: RawObject) -> None:
        self.obj = obj
        self._found: list[Diagnostic] = []

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Everything found so far, in the order of the text."""
        return tuple(sorted(self._found, key=lambda found: found.source))

    @property
    def has_errors(self) -> bool:
        """Whether the object is refused."""
        return any(found.severity is Severity.ERROR for found in self._found)

    def place(self, path: Path) -> SourceRef:
        """Where the value at ``path`` was written."""
        return self.obj.locate(path)

    def error(self, code: str, message: str, path: Path, hint: str | None = None) -> None:
        """Refuses the object."""
        self._add(Severity.ERROR, code, message, path, hint)

    def warning(self, code: str, message: str, path: Path, hint: str | None = None) -> None:
        """Something that is in force but may not be what was meant."""
        self._add(Severity.WARNING, code, message, path, hint)

    def info(self, code: str, message: str, path: Path, hint: str | None = None) -> None:
        """Something worth knowing."""
        self._add(Severity.INFO, code, message, path, hint)

    def error_at_key(self, code: str, message: str, path: Path, hint: str | None = None) -> None:
        """Refuses the object because of a key rather than its value."""
        self._found.append(
            Diagnostic(Severity.ERROR, code, message, self.obj.locate.key(path), dotted(path), hint)
        )

    def unsupported(self, path: Path, why: str) -> None:
        """A field that the dialect has and that has no effect here yet."""
        message = f"{path[-1]} is not supported yet and has no effect" + (f": {why}" if why else "")
        self._found.append(
            Diagnostic(Severity.WARNING, "unsupported", message, self.obj.locate.key(path), dotted(path))
        )

    def lowered(self, fragments: Iterable[Fragment]) -> Lowered:
        """The result of lowering: no fragments when there is an error."""
        return Lowered(() if self.has_errors else tuple(fragments), self.diagnostics)

    def _add(self, severity: Severity, code: str, message: str, path: Path, hint: str | None) -> None:
        self._found.append(Diagnostic(severity, code, message, self.place(path), dotted(path), hint))


def meta_of(obj: RawObject) -> Meta:
    """What every fragment carries about its object."""
    return Meta(obj.created, obj.namespace, obj.name, obj.kind, obj.source)


def dotted(path: Path) -> str:
    """``("spec", "http", 0, "match")`` as people write it: ``spec.http[0].match``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the closest one, or all of them."""
    names = sorted(known)
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(written.casefold(), folded, 1, 0.6)
    if close:
        return f"did you mean '{folded[close[0]]}'?"
    if not names:
        return "no field is known here"
    return f"known are {', '.join(names)}"


def seconds(duration: timedelta) -> str:
    """A duration for a message: ``10s``, ``1.5s``."""
    return f"{duration.total_seconds():g}s"
