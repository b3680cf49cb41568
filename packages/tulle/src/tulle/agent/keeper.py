"""Keeps an identity valid: joins when there is none, renews at half-life with jitter, tells who wants to know."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tulle.agent.attestation import Attestation
from tulle.agent.ca_client import (
    AuthorityUnavailableError,
    CertificateClient,
    CertificateRefusedError,
    is_current,
    utc,
)
from tulle.agent.held import Held, load, save

_LOG = logging.getLogger(__name__)

JITTER = 0.1
"""By which part of the time until renewal it is moved, so that workloads started together do not renew together."""

LAST_FOLLOW_RETRY = 5.0
"""Seconds at most between attempts to follow the authority: a rotation of the root waits for everybody."""

FIRST_RETRY, LAST_RETRY = 1.0, 60.0
"""Seconds between attempts to renew; doubled each time."""


@dataclass(frozen=True, slots=True)
class Time:
    """The clock (seconds since 1970), how to wait, and how to draw from 0..1."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random


class IdentityKeeper:
    """One workload's identity. `start` gets it, `run` keeps it; `changed` is called with every new one."""

    def __init__(
        self,
        client: CertificateClient,
        state: Path,
        token: Path | Attestation,
        life: timedelta = timedelta(0),
        clock: Time | None = None,
    ) -> None:
        self._client = client
        self._state = state
        self._token = token
        self._life = life
        self._time = clock or Time()
        self._held: Held | None = None
        self.changed: list[Callable[[Held], None]] = []
        self.taken_up: list[Callable[[], Awaitable[None]]] = []
        """Awaited after a change, before the authority is told that it is in force."""
        self._prompted = 0

    async def start(self) -> Held:
        """Takes up the identity of an earlier run, or joins, waiting for the control plane if need be.

        Raises `CertificateRefusedError` when the token is not accepted.
        """
        held = load(self._state, self._time.now())
        if held is not None:
            return self._take(held)
        return await self._persist(self._join)

    async def run(self) -> None:
        """Renews for ever. An identity that expired in spite of all attempts is joined for again."""
        assert self._held is not None, "start first"
        while True:
            ahead = max(0.0, self._held.renew_at - self._time.now())
            follower = asyncio.create_task(self._follow())
            due = asyncio.ensure_future(self._time.sleep(ahead * (1 + JITTER * (2 * self._time.draw() - 1))))
            try:
                await asyncio.wait([follower, due], return_when=asyncio.FIRST_COMPLETED)
                for ended in (follower, due):
                    if ended.done():
                        ended.result()
            finally:
                for task in (follower, due):
                    task.cancel()
                await asyncio.gather(follower, due, return_exceptions=True)
            await self._persist(self._renew)

    async def _follow(self) -> None:
        """Takes up what the authority pushes; ends when it wants another certificate to be used."""
        pause = FIRST_RETRY
        for each in self.taken_up:
            await each()
        while True:
            assert self._held is not None
            try:
                await self._client.follow(self._held, self._pushed)
                # Renewing may not help: then the authority is not asked again and again.
                wait = min(FIRST_RETRY * 2**self._prompted * self._time.draw(), LAST_RETRY)
                self._prompted += 1
                await asyncio.sleep(wait)
                return
            except (AuthorityUnavailableError, CertificateRefusedError) as error:
                _LOG.warning("roots and revocations are not followed, next attempt in %.0f s: %s", pause, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_FOLLOW_RETRY)

    async def _pushed(self, held: Held) -> bool:
        if not is_current(held):
            self._taken(held)
            return False
        self._prompted = 0
        if self._taken(held):
            for each in self.taken_up:
                await each()
        return True

    def _taken(self, held: Held) -> bool:
        if held == self._held:
            return False
        save(self._state, held)
        self._take(held)
        return True

    async def _persist(self, attempt: Callable[[], Awaitable[Held]]) -> Held:
        """Attempts until the control plane answers."""
        pause = FIRST_RETRY
        while True:
            try:
                held = await attempt()
            except AuthorityUnavailableError as error:
                _LOG.warning("no identity yet, next attempt in %.0f s: %s", pause, error)
                await self._time.sleep(pause)
                pause = min(2 * pause, LAST_RETRY, self._longest_pause())
                continue
            save(self._state, held)
            return self._take(held)

    def _longest_pause(self) -> float:
        """A tenth of what is left when renewals begin, so that certificates that live short are not slept through."""
        if self._held is None:
            return LAST_RETRY
        return max(FIRST_RETRY, (self._held.expires - self._held.renew_at) / 10)

    async def _join(self) -> Held:
        if isinstance(self._token, Attestation):
            token = await self._token.token()
        else:
            try:
                token = self._token.read_text().strip()
            except FileNotFoundError:
                raise CertificateRefusedError(f"no join token in {self._token}") from None
        return await self._client.join(token, self._life, utc(self._time.now()))

    async def _renew(self) -> Held:
        assert self._held is not None
        now = self._time.now()
        try:
            if now < self._held.expires:
                return await self._client.renew(self._held, self._life, utc(now))
            return await self._join()
        except CertificateRefusedError as error:
            # The workload may be registered again, or be given a new token, before it is too late.
            raise AuthorityUnavailableError(str(error)) from error

    def _take(self, held: Held) -> Held:
        self._held = held
        for tell in self.changed:
            tell(held)
        return held
