"""A costly look is shared: by those who ask at once, and by those who ask soon after."""

from __future__ import annotations

import asyncio

import pytest

from tulle.status.recent import Recent


class Sidecars:
    """Counts how often they are asked; each answer waits for `answer`."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 100.0
        self.answer = asyncio.Event()
        self.failure: Exception | None = None

    async def look(self) -> int:
        self.asked += 1
        number = self.asked
        await self.answer.wait()
        if self.failure is not None:
            raise self.failure
        return number

    def recent(self) -> Recent[int]:
        return Recent(self.look, 5.0, lambda: self.now)


async def test_an_answer_is_good_for_a_while_and_no_longer() -> None:
    sidecars = Sidecars()
    sidecars.answer.set()
    recent = sidecars.recent()
    assert [await recent.get(), await recent.get()] == [1, 1]
    sidecars.now += 4.9
    assert await recent.get() == 1
    sidecars.now += 0.1
    assert await recent.get() == 2
    sidecars.now -= 50.0
    assert await recent.get() == 3, "a clock that goes back makes nothing young"


async def test_those_who_ask_at_once_share_one_look_however_long_it_takes() -> None:
    sidecars = Sidecars()
    recent = sidecars.recent()
    waiting = [asyncio.create_task(recent.get()) for _ in range(10)]
    await asyncio.sleep(0)
    sidecars.now += 60.0
    waiting.append(asyncio.create_task(recent.get()))
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    sidecars.answer.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [1] * 10
    assert sidecars.asked == 1
    assert await recent.get() == 2, "it is as old as its question"


async def test_a_failure_is_told_and_not_kept() -> None:
    sidecars = Sidecars()
    sidecars.answer.set()
    recent = sidecars.recent()
    sidecars.failure = OSError("nobody there")
    for _ in range(2):
        with pytest.raises(OSError, match="nobody"):
            await recent.get()
    sidecars.failure = None
    assert [await recent.get(), sidecars.asked] == [3, 3]
