"""Checks configuration texts as a control plane would, without one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tulle.controlplane.compile import Compiled, Compiler
from tulle.controlplane.files import FileContent, merge_files
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.sources.yaml_reader import read_yaml


@dataclass(frozen=True, slots=True)
class Checked:
    """How many objects there were, and everything found, by place."""

    objects: int
    findings: tuple[Diagnostic, ...]

    @property
    def errors(self) -> int:
        """How many findings would refuse the configuration."""
        return sum(found.severity is Severity.ERROR for found in self.findings)


def check(texts: Iterable[tuple[str, str]]) -> Checked:
    """Reads, lowers and links (file name, text) pairs together."""
    return compile_texts(texts)[0]


def compile_texts(texts: Iterable[tuple[str, str]]) -> tuple[Checked, Compiled]:
    """The findings, and what was compiled; with errors among them it lacks what they refuse."""
    files: dict[str, FileContent] = {}
    count = 0
    for name, text in texts:
        objects, findings = read_yaml(text, name, count)
        files[name] = FileContent(objects, findings)
        count += len(objects)
    merged, found = merge_files(files)
    compiled = Compiler().compile(merged, ())
    every = sorted((*found, *compiled.diagnostics), key=lambda each: (each.source, each.code))
    return Checked(count, tuple(every)), compiled
