"""A cache by the identity of its inputs that forgets what two generations of the mesh did not use."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

_T = TypeVar("_T")


class Memo:
    """`get` builds a value once for given input objects; `turn` starts a generation.

    Inputs are told apart by identity, which holds because linking and scoping keep what did not change; each
    entry holds its inputs, so that no identity is reused while it counts.
    """

    def __init__(self) -> None:
        self._now: dict[Hashable, tuple[tuple[object, ...], object]] = {}
        self._before: dict[Hashable, tuple[tuple[object, ...], object]] = {}

    def turn(self) -> None:
        """Starts a generation: what the last one did not use is dropped."""
        self._before, self._now = self._now, {}

    def get(self, tag: Hashable, inputs: tuple[object, ...], build: Callable[[], _T]) -> _T:
        """The value for `tag` (by value) and `inputs` (by identity); `build` depends on nothing else."""
        key = (tag, tuple(map(id, inputs)))
        entry = self._now.get(key)
        if entry is None:
            entry = self._before.get(key) or (inputs, build())
            self._now[key] = entry
        return entry[1]  # type: ignore[return-value]  # what was stored under this tag is what its build made
