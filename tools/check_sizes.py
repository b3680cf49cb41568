"""Refuses source files and Python functions that outgrew the sizes CONTRIBUTING.md names.

A file that must be longer says why in its first lines with the words `size:`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FILE_LINES = 600
FUNCTION_LINES = 70
EXEMPT = "size:"


def tracked(*patterns: str) -> list[Path]:
    """The repository's source files of these patterns, tracked or new."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        check=True, capture_output=True, text=True,
    ).stdout.split()
    return [path for path in map(Path, listed) if path.exists()]


def long_functions(path: Path, text: str) -> list[str]:
    """One line per Python function longer than FUNCTION_LINES."""
    return [
        f"{path}:{node.lineno}: {node.name} has {length} lines (at most {FUNCTION_LINES})"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]


def main() -> int:
    findings: list[str] = []
    for path in tracked("*.py", "*.rs", "*.ts", "*.svelte", "*.js"):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        if len(lines) > FILE_LINES and not any(EXEMPT in line for line in lines[:8]):
            findings.append(f"{path}: {len(lines)} lines (at most {FILE_LINES})")
        if path.suffix == ".py":
            findings.extend(long_functions(path, text))
    print("\n".join(findings) or "sizes: kept")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
