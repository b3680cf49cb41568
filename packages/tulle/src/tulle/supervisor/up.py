"""Puts a mesh together from the command line's choices and runs it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tulle.supervisor import namespace
from tulle.supervisor.client import ControlPlane
from tulle.supervisor.dataplane import DataPlane, DataPlaneMissing
from tulle.supervisor.guard import MARK, Guard
from tulle.supervisor.logs import Console, Show
from tulle.supervisor.mesh import Announce, Mesh
from tulle.supervisor.plane_envoy import EnvoyPlane
from tulle.supervisor.plane_tulle import TullePlane
from tulle.supervisor.ports import PortBook
from tulle.supervisor.programs import envoy, tulle_proxy
from tulle.supervisor.site import LOOPBACK, MeshSite
from tulle.supervisor.token_door import TokenDoor
from tulle.supervisor.workloads import Workloads

DRAIN_SECONDS = 10
PROBE_PATIENCE = 2.0

Companion = Callable[[Mesh], Awaitable[None]]
"""Runs beside a mesh, from its start to its end."""


class StateInUse(Exception):
    """Another `tulle up` uses the state directory."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What to run, on which data plane (`tulle` or `envoy`), where its state is, and who is told."""

    paths: Sequence[Path]
    data_plane: str
    state: Path
    ready_file: Path | None
    announce: Announce
    show: Show = field(default_factory=Console)
    companion: Companion | None = None
    issuer: Sequence[str] = ()
    """The control plane's options about its issuer and how long certificates live."""
    isolated: bool = False
    """Whether each application gets a network namespace of its own."""


def run(setup: Setup) -> None:
    """Runs until SIGTERM or SIGINT. Raises `MeshFailed`, `DataPlaneMissing`, `NamespacesUnavailable`, `StateInUse` or
    OSError.
    """
    if setup.isolated:
        namespace.check()
    state = setup.state.absolute()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = secrets.token_hex(16)
    with ExitStack() as stack:
        _lock(state, stack)
        if setup.ready_file is not None:
            setup.ready_file.unlink(missing_ok=True)
        sockets = Path(tempfile.mkdtemp(prefix="tulle-"))
        stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        guard = Guard.start(mark)
        stack.callback(guard.stop)
        asyncio.run(_run(setup, state, sockets, mark))


def _lock(state: Path, stack: ExitStack) -> None:
    lock = stack.enter_context((state / "up.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateInUse(f"{state} is in use by another mesh; say another --state") from error


async def _run(setup: Setup, state: Path, sockets: Path, mark: str) -> None:
    ports = PortBook(random.SystemRandom())
    api = ControlPlane(f"http://{LOOPBACK}:{ports.choose()}", state)
    door = TokenDoor(sockets / "join.sock", api.join_token)
    site = MeshSite(
        state=state,
        sockets=sockets,
        tokens=door.path,
        xds=f"{LOOPBACK}:{ports.choose()}",
        join=f"{LOOPBACK}:{ports.choose()}",
        trust_domain="cluster.local",
        trust_anchor=state / "ca" / "root.pem",
        base_env=_base_environment(mark),
        drain_seconds=DRAIN_SECONDS,
        isolated=setup.isolated,
    )
    plane = _data_plane(setup.data_plane)
    async with httpx.AsyncClient(timeout=PROBE_PATIENCE, trust_env=False) as http:
        workloads = Workloads(site, plane, api, ports, http, setup.show)
        mesh = Mesh(site, setup.paths, api, workloads, setup.show, setup.announce, setup.ready_file, setup.issuer)
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, mesh.stop.set)
        beside = [asyncio.ensure_future(setup.companion(mesh))] if setup.companion is not None else []
        try:
            await door.open()
            await mesh.run()
            await asyncio.gather(*beside)
        finally:
            for task in beside:
                task.cancel()
            door.close()
            await api.close()
            ports.close()


def _data_plane(name: str) -> DataPlane:
    if name == "envoy":
        program = envoy()
        if program is None:
            raise DataPlaneMissing("Envoy is not installed: 'make build' installs it, or put envoy on the PATH")
        return EnvoyPlane(program)
    program = tulle_proxy()
    if program is None:
        raise DataPlaneMissing("tulle-proxy is not built: run 'make build'")
    return TullePlane(program)


def _base_environment(mark: str) -> dict[str, str]:
    """What every process starts from: this one's environment, the mark, and no proxy of this one's surroundings.

    The project's own Python comes last on the PATH, for workloads on machines that have none.
    """
    surroundings = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy"}
    inherited = {name: value for name, value in os.environ.items() if name.lower() not in surroundings}
    inherited["PATH"] = os.pathsep.join([inherited.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    return {**inherited, "PYTHONUNBUFFERED": "1", MARK: mark}
