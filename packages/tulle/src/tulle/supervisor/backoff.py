"""How long to wait before starting again what died: doubling, with jitter, forgotten after a stable while."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST = 0.1
LONGEST = 10.0
STABLE = 10.0
"""Seconds: the first wait, the longest one, and how long a run must last for the next death to count as a first."""


@dataclass(slots=True)
class Backoff:
    """The waits of one process. Pure: the lengths of runs are passed in."""

    chance: random.Random
    _deaths: int = 0

    def after(self, ran_for: float) -> float:
        """Seconds to wait after a run of ``ran_for`` seconds; between half and all of the doubled wait."""
        if ran_for >= STABLE:
            self._deaths = 0
        wait = min(LONGEST, FIRST * 2.0**min(self._deaths, 16))
        self._deaths += 1
        return wait * self.chance.uniform(0.5, 1.0)
