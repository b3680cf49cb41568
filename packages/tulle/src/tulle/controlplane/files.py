"""The file sources: the objects of each file as last accepted, and what was wrong with an edit that was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tulle.model.diagnostics import Diagnostic, Severity
from tulle.objects import ObjectKey, RawObject
from tulle.sources.yaml_reader import files_in, read_path


@dataclass(frozen=True, slots=True)
class FileContent:
    """One file as read: its objects, and the findings of reading it."""

    objects: tuple[RawObject, ...]
    findings: tuple[Diagnostic, ...]

    @property
    def broken(self) -> bool:
        """Whether some of the file could not be read."""
        return any(found.severity is Severity.ERROR for found in self.findings)


OLDEST = -1_000_000_000
"""The age of the first object of the first file: older than everything that was ever applied."""

Files = Mapping[str, FileContent]
"""File contents by path."""


def read_files(paths: Sequence[Path], ignored: Sequence[Path] = ()) -> dict[str, FileContent]:
    """Reads the files that ``paths`` name, directly or as members of a directory, numbering objects through.

    Members of a directory that are among ``ignored`` (absolute paths) are not configuration.
    """
    contents: dict[str, FileContent] = {}
    count = OLDEST
    for path in paths:
        for file in files_in(path) if path.is_dir() else (path,):
            if path.is_dir() and file.absolute() in ignored:
                continue
            objects, findings = read_path(file, count)
            contents[str(file)] = FileContent(objects, findings)
            count += len(objects)
    return contents


def merge_files(files: Files) -> tuple[dict[ObjectKey, RawObject], list[Diagnostic]]:
    """The objects of all files; of an object that is there twice the first stays, with a warning."""
    merged: dict[ObjectKey, RawObject] = {}
    findings: list[Diagnostic] = []
    for content in files.values():
        findings += content.findings
        for obj in content.objects:
            first = merged.setdefault(obj.key, obj)
            if first is not obj:
                findings.append(_twice(first, obj))
    return merged, findings


def _twice(first: RawObject, again: RawObject) -> Diagnostic:
    return Diagnostic(
        Severity.WARNING,
        "duplicate-object",
        f"{again.kind} {again.namespace}/{again.name} is declared twice; this one is ignored",
        again.source,
        hint="remove one of them or give it another name",
        related=(first.source,),
    )
