"""Keeps each process's output in a file of its own and shows it with a prefix that names the process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

CHUNK = 64 * 1024
LONGEST_LINE = 16 * 1024
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)

Show = Callable[[str, str], None]
"""Shows one line of the process with that name."""


def quiet(name: str, line: str) -> None:
    """Shows nothing."""


@dataclass(slots=True)
class Console:
    """Shows lines on standard error, prefixed, in a colour per process where a terminal looks on."""

    _colours: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: str, line: str) -> None:
        prefix = f"{name:<24} |"
        if sys.stderr.isatty():
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        print(f"{prefix} {line}", file=sys.stderr, flush=True)


async def follow(stream: asyncio.StreamReader, name: str, path: Path, show: Show) -> None:
    """Copies ``stream`` to the end of ``path`` and shows its lines until it ends; long lines are shown in parts."""
    with path.open("ab", buffering=0) as log:
        rest = b""
        while chunk := await stream.read(CHUNK):
            rest = _write(rest + chunk, log, name, show)
        if rest:
            log.write(rest + b"\n")
            show(name, rest.decode(errors="replace"))


def _write(data: bytes, log: BinaryIO, name: str, show: Show) -> bytes:
    *lines, rest = data.split(b"\n")
    log.write(b"".join(line + b"\n" for line in lines))
    for line in lines:
        show(name, line.decode(errors="replace"))
    if len(rest) <= LONGEST_LINE:
        return rest
    log.write(rest)
    show(name, rest.decode(errors="replace"))
    return b""
