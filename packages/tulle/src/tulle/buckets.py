"""Token buckets by key: how often each caller may do something. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_KEYS = 10_000
"""How many callers are remembered; those whose bucket is full again are forgotten first."""


@dataclass(slots=True)
class Buckets:
    """Each key may do ``burst`` things at once, and ``rate`` things a second on average."""

    rate: float
    burst: float
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, key: str, now: float) -> bool:
        """Takes one token of a key at a time in seconds; False when there is none."""
        level = self.level(key, now)
        if level < 1:
            return False
        if key not in self._left and len(self._left) >= MOST_KEYS:
            self._forget(now)
        self._left[key] = (level - 1, now)
        return True

    def level(self, key: str, now: float) -> float:
        """How many tokens a key has."""
        left, then = self._left.get(key, (self.burst, now))
        # A clock that was set back gives nothing, and takes nothing.
        return min(self.burst, left + max(0.0, now - then) * self.rate)

    def _forget(self, now: float) -> None:
        full = [key for key in self._left if self.level(key, now) >= self.burst]
        oldest = sorted(self._left, key=lambda key: self._left[key][1])[: MOST_KEYS // 2]
        for key in full or oldest:
            del self._left[key]
