"""Writes small files so that a crash leaves the old content or the new, readable by the owner only."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces ``path`` in one step; the mode is 0600."""
    write_draft(path, content).replace(path)


def write_draft(path: Path, content: bytes) -> Path:
    """What ``path`` is to be replaced with, on disk beside it: what is left takes no more room."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft
