"""Judges one attack in an arena: its own outcome, and that the proxy is as good as before."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attack.outcome import GOOD, Outcome, of_the_attack
from attack.positions import Arena
from attack.rows_h2 import send
from attack.table import HOST, Attack, Stream
from attack.wire import PATIENCE_S, Heard, converse

MEMORY = 32 << 20
"""How much resident memory a row may take above what there was before it, in bytes, even for a moment."""


def run(arena: Arena, attack: Attack, patience: float = PATIENCE_S) -> list[str]:
    """What is wrong with what came of it; each line begins with the attack's name."""
    arena.application.forget()
    with arena.connect(patience=patience) as line:
        parts = [part.replace(HOST, arena.host.encode()) for part in attack.parts]
        heard = converse(line, parts, attack.outcome.expected)
    return [f"{attack.id}: {fault}" for fault in verdict(arena, attack.outcome, heard)]


def run_stream(arena: Arena, attack: Stream, patience: float = PATIENCE_S) -> list[str]:
    """The same over HTTP/2, where besides the connection must go on."""
    arena.application.forget()
    heard, broken = send(arena, attack, patience)
    return [f"{attack.id}: {fault}" for fault in (*broken, *verdict(arena, attack.outcome, heard))]


def verdict(arena: Arena, outcome: Outcome, heard: Heard) -> Iterator[str]:
    """After the attack: the next good request succeeds, the process lives, and the outcome is what it must be."""
    yield from good_request(arena)
    yield from outcome.faults(heard, arena.application.recording, arena.host)


def good_request(arena: Arena) -> Iterator[str]:
    """A plain request on a new connection is served."""
    trouble = arena.alive()
    if trouble is not None:
        yield trouble
        return
    with arena.connect() as line:
        asked = f"GET {GOOD} HTTP/1.1\r\nHost: {arena.host}\r\n\r\n".encode()
        heard = converse(line, [asked], 1)
    if heard.statuses != [200]:
        yield f"the next good request is answered {heard.statuses}"
    recording = arena.application.recording
    good = [each for each in recording.requests if each.path == GOOD]
    if len(good) != 1:
        yield f"the application saw {len(good)} good requests: {of_the_attack(recording)}"


class Memory:
    """The proxy's resident memory over some attacks."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.before, _ = arena.memory()
        arena.peak_from_here()

    def faults(self) -> Iterator[str]:
        """Whether it was bounded."""
        _, peak = self.arena.memory()
        if peak - self.before > MEMORY:
            yield f"resident memory rose by {(peak - self.before) >> 20} MiB"


@dataclass(frozen=True, slots=True)
class Excuse:
    """Why Envoy does not meet an attack as safely; `sometimes`: whether it does is a matter of timing."""

    reason: str
    sometimes: bool


def excuses(file: Path) -> dict[str, Excuse]:
    """What envoy.toml says, by `protocol position id`."""
    return {
        f"{entry['protocol']} {position} {name}": Excuse(entry["reason"], entry.get("sometimes", False))
        for entry in tomllib.loads(file.read_text())["envoy"]
        for name in entry["attacks"]
        for position in entry["positions"]
    }
