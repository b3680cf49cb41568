"""Where one workload runs on this machine: its ports, its folder, and the control plane it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tulle.api import wire
from tulle.supervisor.ports import PortBook

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class MeshSite:
    """What all workloads of a mesh share. ``base_env`` is the environment every process starts from."""

    state: Path
    sockets: Path
    xds: str
    join: str
    trust_domain: str
    trust_anchor: Path
    base_env: Mapping[str, str]
    drain_seconds: int


@dataclass(frozen=True, slots=True)
class Site:
    """One workload's place. ``inbound`` leads from the application's port to the sidecar's port for it."""

    mesh: MeshSite
    view: wire.WorkloadView
    outbound: int
    admin: int
    inbound: Mapping[int, int]

    @classmethod
    def choose(cls, mesh: MeshSite, view: wire.WorkloadView, ports: PortBook) -> Site:
        """Picks free ports for a workload's sidecar."""
        inbound = {port.number: ports.reserve(view.address) for port in view.ports}
        return cls(mesh, view, ports.reserve(view.address), ports.choose(LOOPBACK), inbound)

    def release(self, ports: PortBook) -> None:
        """Gives the ports back."""
        for port in (self.outbound, *self.inbound.values()):
            ports.release(self.view.address, port)
        ports.release(LOOPBACK, self.admin)

    @property
    def title(self) -> str:
        """The workload's name for people: short in the default namespace."""
        return self.view.name if self.view.namespace == "default" else f"{self.view.name}.{self.view.namespace}"

    @property
    def folder(self) -> Path:
        """The workload's own folder in the state directory, made with mode 0700."""
        folder = self.mesh.state / "workloads" / f"{self.view.namespace}.{self.view.name}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def log(self, part: str) -> Path:
        """The file that keeps what one of the workload's processes says."""
        logs = self.mesh.state / "logs"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return logs / f"{self.view.namespace}.{self.view.name}.{part}.log"

    def placement(self, *, ready: bool, pid: int | None, proxy_pid: int | None) -> wire.PlacementView:
        """The place as the control plane wants to know it."""
        return wire.PlacementView(
            outbound=self.outbound,
            admin=self.admin,
            inbound=[wire.InboundPort(app=app, listen=listen) for app, listen in self.inbound.items()],
            ready=ready, pid=pid, proxy_pid=proxy_pid,
        )


def app_environment(site: Site) -> dict[str, str]:
    """The environment of a workload's own process: its HTTP traffic leaves through its sidecar.

    The workload's declared ``env`` comes last and may change any of it.
    """
    return {**site.mesh.base_env, **proxy_variables(site.view.address, site.outbound), **site.view.env}


def proxy_variables(address: str, outbound: int) -> dict[str, str]:
    """The variables by which HTTP clients use a proxy; loopback stays direct so that `upstreams` ports work."""
    proxy = f"http://{address}:{outbound}"
    direct = "localhost,127.0.0.1,::1"
    return {
        "http_proxy": proxy,
        "HTTP_PROXY": proxy,
        "no_proxy": direct,
        "NO_PROXY": direct,
        "NODE_USE_ENV_PROXY": "1",
    }
