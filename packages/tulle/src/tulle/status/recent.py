"""What costs a look at every sidecar is looked at once for all who ask within a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Recent(Generic[T]):
    """Hands out what ``look`` found at most ``life`` seconds ago by ``clock``, or else looks.

    Who asks while a look is under way gets what that finds. A look that fails is told to those who wait for it, and not
    kept. The age counts from the beginning of a look: what it found may be as old as that.
    """

    look: Callable[[], Awaitable[T]]
    life: float
    clock: Callable[[], float]
    _found: asyncio.Future[T] | None = None
    _since: float = field(default=0.0)

    async def get(self) -> T:
        """The latest. Raises what the look raises."""
        now = self.clock()
        found = self._found
        if found is None or (found.done() and (not _good(found) or not 0 <= now - self._since < self.life)):
            found = self._found = asyncio.ensure_future(self.look())
            self._since = now
        # Others may wait for the same: one that is cancelled ends its own waiting only.
        return await asyncio.shield(found)


def _good(found: asyncio.Future[T]) -> bool:
    return not found.cancelled() and found.exception() is None
