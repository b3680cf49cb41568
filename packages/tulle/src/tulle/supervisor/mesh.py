"""A mesh on this machine: control plane and workloads from start to orderly end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tulle.supervisor import ready_file
from tulle.supervisor.child import Child, Command
from tulle.supervisor.client import ControlPlane
from tulle.supervisor.logs import Show
from tulle.supervisor.site import MeshSite
from tulle.supervisor.workloads import POLL, Workloads

CONTROL_PLANE_GRACE = 5.0
REFUSED_CONFIGURATION = 2
"""Exit status of a control plane that was given a configuration it must refuse: trying again is of no use."""


class MeshFailed(Exception):
    """The mesh cannot run; the control plane has said why on standard error."""


Announce = Callable[[dict[str, Any]], None]
"""Called once, with the ready file's content, when every workload is ready for the first time."""


@dataclass(slots=True)
class Mesh:
    """Everything that runs. Create, then await :meth:`run`."""

    site: MeshSite
    paths: Sequence[Path]
    client: ControlPlane
    workloads: Workloads
    show: Show
    announce: Announce
    ready_file: Path | None = None
    issuer: Sequence[str] = ()
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _description: dict[str, Any] | None = None

    async def run(self) -> None:
        """Runs until :attr:`stop` is set, then ends everything in order. Raises `MeshFailed`."""
        control_plane = self._control_plane()
        control_plane.start()
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._until_healthy(control_plane)
            if not self.stop.is_set():
                await self.client.displace_all()
                tasks = [asyncio.create_task(each) for each in (self.workloads.follow(), self._report(control_plane))]
                await self._until_stopped(tasks)
        finally:
            await self._end(tasks, control_plane)

    def _control_plane(self) -> Child:
        argv = [sys.executable, "-m", "tulle.cli", "control-plane", "--state", str(self.site.state)]
        argv += ["--api", self.client.api.removeprefix("http://"), "--xds", self.site.xds, "--join", self.site.join]
        for path in self.paths:
            argv += ["--config", str(path)]
        if self.ready_file is not None:
            # It may be written next to the configuration.
            argv += ["--ignore", str(self.ready_file)]
        argv += self.issuer
        log = self.site.state / "logs" / "control-plane.log"
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

        async def prepare() -> Command:
            return Command(argv, self.site.base_env)

        return Child("control-plane", prepare, log, self.show, self.workloads.poke, frozenset({REFUSED_CONFIGURATION}))

    async def _until_healthy(self, control_plane: Child) -> None:
        while not self.stop.is_set() and not await self.client.healthy():
            if control_plane.gave_up is not None:
                raise MeshFailed("the control plane refused to start; it has said why")
            await asyncio.sleep(POLL)
        control_plane.fatal = frozenset()

    async def _until_stopped(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        waiting = asyncio.create_task(self.stop.wait())
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in done:
            task.result()

    async def _report(self, control_plane: Child) -> None:
        """Keeps the control plane informed for ever, and from the first time that all is ready the ready file."""
        announced = False
        while True:
            await self.workloads.tell()
            while not announced and self.workloads.ready:
                announced = await self.workloads.synced()
                if announced:
                    self._write(control_plane)
                    self.announce(self._description or {})
                else:
                    await asyncio.sleep(POLL)
            if announced:
                self._write(control_plane)

    def _write(self, control_plane: Child) -> None:
        units = self.workloads.units
        description = {
            "api": self.client.api,
            "control_plane_pid": control_plane.pid,
            "xds": self.site.xds,
            "net": "ns" if self.site.isolated else "host",
            "dashboard": None,
            "workloads": [ready_file.describe_workload(units[key]) for key in sorted(units)],
            "gateways": [],
        }
        if description != self._description and control_plane.pid is not None:
            self._description = description
            if self.ready_file is not None:
                ready_file.write(self.ready_file, description)

    async def _end(self, tasks: Sequence[asyncio.Task[None]], control_plane: Child) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.workloads.stop()
        await control_plane.stop(CONTROL_PLANE_GRACE)
        if self.ready_file is not None:
            self.ready_file.unlink(missing_ok=True)
