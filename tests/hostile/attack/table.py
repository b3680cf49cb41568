"""The catalogue's rows as data: what is sent over HTTP/1.1 or HTTP/2, in which positions, and what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from attack.outcome import Outcome
from attack.positions import POSITIONS, Position

HOST = b"%HOST%"
"""Stands for the authority of a good request in the position."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One input over HTTP/1.1; `parts` are written one after the other."""

    row: int
    name: str
    parts: tuple[bytes, ...]
    outcome: Outcome
    positions: Sequence[Position] = POSITIONS

    @property
    def id(self) -> str:
        """In test names and in envoy.toml."""
        return f"{self.row}-{self.name}"


Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Stream:
    """One input over HTTP/2: `head` as it stands, or the usual pseudo-fields before `fields`; data; trailers."""

    row: int
    name: str
    outcome: Outcome
    fields: Fields = field(default_factory=list)
    method: bytes = b"GET"
    path: bytes = b"/x"
    head: Fields | None = None
    data: tuple[bytes, ...] = ()
    trailers: Fields | None = None
    positions: Sequence[Position] = POSITIONS

    @property
    def id(self) -> str:
        """In test names and in envoy.toml."""
        return f"{self.row}-{self.name}"


def slug(text: str) -> str:
    """A name for an attack: the text itself, with what cannot be printed escaped."""
    return text.encode("unicode_escape").decode() or "empty"
