"""One workload while it runs: its sidecar's processes, its own process, and whether both are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tulle.api import wire
from tulle.supervisor import identity_api, probes
from tulle.supervisor.child import Child, Command
from tulle.supervisor.dataplane import DataPlane, Sidecar
from tulle.supervisor.logs import Show
from tulle.supervisor.site import LOOPBACK, Site, app_environment, expand

APP_GRACE = 5.0
"""Seconds an application may take to end after SIGTERM."""


@dataclass(slots=True)
class Watched:
    """A child and its readiness; ``probe`` None means ready as soon as it runs."""

    child: Child
    probe: probes.Probe | None
    period: float = probes.CALM
    ready: bool = False
    _seen: int = 0
    _task: asyncio.Task[None] | None = None

    def follow(self, tell: Callable[[], None]) -> None:
        """Called at each change of the child: begins to probe what has started, forgets what has ended."""
        if self.child.pid is None:
            self._forget()
        elif self._seen != self.child.starts:
            self._forget()
            self._seen = self.child.starts
            if self.probe is None:
                self.ready = True
            else:
                self._task = asyncio.create_task(probes.watch(self.probe, self._told(tell), self.period))

    def _told(self, tell: Callable[[], None]) -> Callable[[bool], None]:
        def told(ready: bool) -> None:  # noqa: FBT001 - it is the one thing that is told
            self.ready = ready
            tell()

        return told

    def _forget(self) -> None:
        self.ready = False
        if self._task is not None:
            self._task.cancel()
            self._task = None


@dataclass(slots=True)
class Unit:
    """The processes of one workload. ``changed`` is called whenever anything to be told about it changes."""

    site: Site
    changed: Callable[[], None]
    sidecar: Sidecar
    proxy: Watched
    app: Watched | None
    identity: Child | None = None
    stopping: bool = False
    _own_probe: asyncio.Task[None] | None = None
    _own_ready: bool = True
    _children: list[Watched] = field(default_factory=list)

    @classmethod
    def create(
        cls, site: Site, plane: DataPlane, http: httpx.AsyncClient, show: Show, changed: Callable[[], None]
    ) -> Unit:
        """A unit that has not started anything yet."""
        sidecar = plane.sidecar(site, show)
        live = probes.http_probe(http, f"http://{LOOPBACK}:{site.admin}/ready")
        unit = cls(site, changed, sidecar, Watched(sidecar.proxy, live), None)
        unit.identity = identity_api.agent(site, show)
        app_probe = _app_probe(site, http)
        period = site.view.readiness.period if site.view.readiness else probes.CALM
        if site.view.command is not None:
            unit.app = Watched(_app_child(site, show), app_probe, period)
        elif site.view.readiness is not None and app_probe is not None:
            unit._own_ready = False
            unit._own_probe = asyncio.create_task(probes.watch(app_probe, unit._own_told, period))
        unit._children = [each for each in (unit.proxy, unit.app) if each is not None]
        return unit

    def start(self) -> None:
        """Starts the sidecar and the application, side by side."""
        for watched in self._children:
            watched.child.changed = self._child_changed
        for child in self._helpers():
            child.start()
        for watched in self._children:
            watched.child.start()

    def _helpers(self) -> tuple[Child, ...]:
        return self.sidecar.helpers if self.identity is None else (*self.sidecar.helpers, self.identity)

    @property
    def ready(self) -> bool:
        """Whether traffic may be sent here."""
        return not self.stopping and self._own_ready and all(each.ready for each in self._children)

    @property
    def pid(self) -> int | None:
        """The application's process, when the mesh runs it and it runs."""
        return self.app.child.pid if self.app is not None else None

    def placement(self) -> wire.PlacementView:
        """What the control plane is told."""
        return self.site.placement(ready=self.ready, pid=self.pid, proxy_pid=self.proxy.child.pid)

    async def stop_app(self) -> None:
        """Ends the application."""
        self.stopping = True
        if self._own_probe is not None:
            self._own_probe.cancel()
        if self.app is not None:
            await self.app.child.stop(APP_GRACE)
        if self.identity is not None:
            await self.identity.stop(APP_GRACE)

    async def stop_proxy(self) -> None:
        """Drains the sidecar, then ends it."""
        self.stopping = True
        await self.sidecar.drain_and_stop()

    def _own_told(self, ready: bool) -> None:  # noqa: FBT001 - it is the one thing that is told
        self._own_ready = ready
        self.changed()

    def _child_changed(self) -> None:
        for watched in self._children:
            watched.follow(self.changed)
        self.changed()


def _app_probe(site: Site, http: httpx.AsyncClient) -> probes.Probe | None:
    view = site.view
    if view.readiness is not None:
        port = site.app_port(view.readiness.port)
        if site.namespace is not None:
            return probes.http_probe_within(site.namespace, (view.address, port or 0), view.readiness.path)
        host = f"[{view.address}]" if ":" in view.address else view.address
        return probes.http_probe(http, f"http://{host}:{port}{view.readiness.path}")
    if view.command is not None and site.inbound:
        apps = [port.app for port in site.inbound]
        if site.namespace is not None:
            return probes.port_probe_within(site.namespace, view.address, apps)
        return probes.port_probe(view.address, apps)
    return None


def _app_child(site: Site, show: Show) -> Child:
    async def prepare() -> Command:
        environment = app_environment(site)
        argv = [expand(word, environment) for word in site.view.command or ()]
        enter = None if site.namespace is None else site.namespace.enter
        return Command(argv, environment, site.view.directory, enter=enter)

    return Child(site.title, prepare, site.log("app"), show, changed=lambda: None)
