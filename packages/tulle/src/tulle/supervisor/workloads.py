"""Keeps the running workloads as they are declared, and the control plane informed of where and how they run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from tulle.api import wire
from tulle.supervisor import shutdown
from tulle.supervisor.client import ControlPlane, Unreachable
from tulle.supervisor.dataplane import DataPlane
from tulle.supervisor.logs import Show
from tulle.supervisor.ports import PortBook
from tulle.supervisor.site import MeshSite, Site
from tulle.supervisor.unit import Unit

LONG_POLL = 20.0
RETRY = 0.1
POLL = 0.05
PEERS_PATIENCE = 2.0
"""Seconds that the other proxies get to learn that a workload is going before it goes."""

Key = tuple[str, str]


@dataclass(slots=True)
class Workloads:
    """The units of a mesh by (namespace, name)."""

    site: MeshSite
    plane: DataPlane
    client: ControlPlane
    ports: PortBook
    http: httpx.AsyncClient
    show: Show
    units: dict[Key, Unit] = field(default_factory=dict)
    known: str = ""
    _wanted: Mapping[Key, wire.WorkloadView] = field(default_factory=dict)
    _retiring: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    _told: dict[Key, wire.PlacementView] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        """Does for ever what the control plane's list of workloads says."""
        while True:
            try:
                listed = await self.client.workloads(self.known, LONG_POLL)
            except Unreachable:
                await asyncio.sleep(RETRY)
                continue
            if listed.generation != self.known:
                self.known = listed.generation
                self._wanted = {(view.namespace, view.name): view for view in listed.workloads}
                for key in [*self.units, *self._wanted]:
                    self._settle(key)
                self.poke()

    async def tell(self) -> None:
        """Returns when the control plane knows all placements as they are now, after waiting for a change."""
        await self._changed.wait()
        self._changed.clear()
        for key, unit in list(self.units.items()):
            placement = unit.placement()
            if self._told.get(key) == placement:
                continue
            try:
                await self.client.place(*key, placement)
            except Unreachable:
                self.poke()
                await asyncio.sleep(RETRY)
                return
            self._told[key] = placement

    def poke(self) -> None:
        """Makes :meth:`tell` look again."""
        self._changed.set()

    @property
    def ready(self) -> bool:
        """Whether every declared workload runs, is ready, and is known to be."""
        return bool(self.known) and self._wanted.keys() == self.units.keys() and all(
            unit.ready and key in self._told and self._told[key].ready for key, unit in self.units.items()
        )

    async def synced(self) -> bool:
        """Whether every sidecar has acknowledged the newest configuration."""
        try:
            status = await self.client.status()
        except Unreachable:
            return False
        current = {(proxy.namespace, proxy.name) for proxy in status.proxies if proxy.connected and proxy.synced}
        return current >= self.units.keys()

    async def stop(self) -> None:
        """Ends everything, callers first."""
        for task in self._retiring.values():
            task.cancel()
        await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        await shutdown.stop_all(list(self.units.values()), self.http)
        for unit in self.units.values():
            unit.site.release(self.ports)

    def _settle(self, key: Key) -> None:
        unit, view = self.units.get(key), self._wanted.get(key)
        if key in self._retiring:
            return
        if unit is None and view is not None:
            self._begin(key, view)
        elif unit is not None and (view is None or _runs_differently(unit.site.view, view)):
            self._retiring[key] = asyncio.create_task(self._retire(key, unit))

    def _begin(self, key: Key, view: wire.WorkloadView) -> None:
        site = Site.choose(self.site, view, self.ports)
        unit = Unit.create(site, self.plane, self.http, self.show, self.poke)
        self.units[key] = unit
        unit.start()

    async def _retire(self, key: Key, unit: Unit) -> None:
        """Takes a workload out of the others' endpoints, drains it, ends it, and starts its successor if any."""
        unit.stopping = True
        self.poke()
        await self._until_peers_know()
        await unit.stop_proxy()
        await unit.stop_app()
        unit.site.release(self.ports)
        self._told.pop(key, None)
        try:
            await self.client.displace(*key)
        except Unreachable as error:
            self.show(unit.site.title, f"left without telling the control plane: {error}")
        del self.units[key]
        del self._retiring[key]
        self._settle(key)
        self.poke()

    async def _until_peers_know(self) -> None:
        until = asyncio.get_running_loop().time() + PEERS_PATIENCE
        await asyncio.sleep(POLL)
        while asyncio.get_running_loop().time() < until and not await self.synced():
            await asyncio.sleep(POLL)


def _runs_differently(runs: wire.WorkloadView, declared: wire.WorkloadView) -> bool:
    """Whether a workload must be started anew: labels and upstreams reach a running sidecar by themselves."""
    return any(
        getattr(runs, name) != getattr(declared, name)
        for name in ("service_account", "address", "ports", "command", "env", "directory", "readiness")
    )
