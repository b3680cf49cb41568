"""The proxies that can be a workload's sidecar: how each is configured, started, drained and ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from tulle.supervisor.child import Child
from tulle.supervisor.logs import Show
from tulle.supervisor.site import Site

MARGIN = 5.0
"""Seconds beyond its drain time that a proxy may take to end before it is killed."""

Drain = Callable[[], Awaitable[None]]


async def _drains_itself() -> None:
    """For a proxy that drains at SIGTERM: there is nothing to do before."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar's processes: the proxy, and helpers that live as long as it does.

    ``drain`` is awaited before the proxy is told to end, for proxies that do not drain by themselves.
    """

    proxy: Child
    helpers: tuple[Child, ...] = ()
    drain: Drain = field(default=_drains_itself)
    grace: float = MARGIN

    async def drain_and_stop(self) -> None:
        """Ends the proxy without cutting off a request, then its helpers."""
        await self.drain()
        await self.proxy.stop(self.grace, signal.SIGTERM)
        await asyncio.gather(*(helper.stop(MARGIN) for helper in self.helpers))


class DataPlane(Protocol):
    """One kind of proxy."""

    def sidecar(self, site: Site, show: Show) -> Sidecar:
        """The sidecar of a workload, not started yet."""


class DataPlaneMissing(Exception):
    """The proxy's program is not installed; the message says what to do."""
