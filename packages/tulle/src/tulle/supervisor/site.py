"""Where one workload runs on this machine: its ports, its folder, and the environment of its process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from tulle.api import wire
from tulle.supervisor.environment import proxy_variables
from tulle.supervisor.namespace import Namespace
from tulle.supervisor.ports import PortBook

LOOPBACK = "127.0.0.1"
SPIFFE_ENDPOINT = "SPIFFE_ENDPOINT_SOCKET"
"""Where SPIFFE's clients look (SPIFFE Workload Endpoint §4)."""

_REFERENCE = re.compile(r"\$(\$?)\(([A-Za-z_][A-Za-z0-9_]*)\)")


@dataclass(frozen=True, slots=True)
class MeshSite:
    """What all workloads of a mesh share. ``base_env`` is the environment every process starts from, ``tokens`` the
    socket where sidecars ask for join tokens. ``isolated``: each application has a network namespace of its own.
    """

    state: Path
    sockets: Path
    tokens: Path
    xds: str
    join: str
    trust_domain: str
    trust_anchor: Path
    base_env: Mapping[str, str]
    drain_seconds: int
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """One workload's place. ``inbound`` has the sidecar's port for each port of the application, in the order
    of the declaration and with picked ports filled in; ``upstreams`` likewise. What the application listens on and
    dials is in ``namespace``, where it has one.
    """

    mesh: MeshSite
    view: wire.WorkloadView
    outbound: int
    admin: int
    inbound: tuple[wire.InboundPort, ...]
    upstreams: tuple[wire.UpstreamPort, ...]
    namespace: Namespace | None = None

    @classmethod
    def choose(cls, mesh: MeshSite, view: wire.WorkloadView, ports: PortBook) -> Site:
        """Picks free ports for a workload's sidecar, and those that its declaration leaves open; makes its namespace.
        Raises OSError.
        """
        address = view.address
        # in a namespace a port is taken on the machine too, where nobody then listens on it
        pick = ports.reserve if mesh.isolated else ports.choose
        inbound = tuple(
            wire.InboundPort(
                app=port.number or pick(address), listen=ports.reserve(address), name=port.name
            )
            for port in view.ports
        )
        upstreams = tuple(
            wire.UpstreamPort(
                service=each.service, port=each.port, local_port=each.local_port or ports.reserve(LOOPBACK)
            )
            for each in view.upstreams
        )
        namespace = Namespace(_folder(mesh, view) / "netns", address) if mesh.isolated else None
        return cls(mesh, view, ports.reserve(LOOPBACK), ports.choose(LOOPBACK), inbound, upstreams, namespace)

    def release(self, ports: PortBook) -> None:
        """Gives the ports and the namespace back."""
        if self.namespace is not None:
            self.namespace.close()
        for port in (port for each in self.inbound for port in (each.app, each.listen)):
            ports.release(self.view.address, port)
        for port in (self.outbound, self.admin, *(each.local_port for each in self.upstreams)):
            ports.release(LOOPBACK, port)

    @property
    def title(self) -> str:
        """The workload's name for people: short in the default namespace."""
        return self.view.name if self.view.namespace == "default" else f"{self.view.name}.{self.view.namespace}"

    @property
    def folder(self) -> Path:
        """The workload's own folder in the state directory, made with mode 0700."""
        return _folder(self.mesh, self.view)

    def log(self, part: str) -> Path:
        """The file that keeps what one of the workload's processes says."""
        logs = self.mesh.state / "logs"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return logs / f"{self.view.namespace}.{self.view.name}.{part}.log"

    @property
    def identity_socket(self) -> Path | None:
        """Where the application asks for its identity, if it wants one: short enough for every system."""
        if not self.view.workload_api:
            return None
        name = blake2b(f"{self.view.namespace}/{self.view.name}".encode(), digest_size=8).hexdigest()
        return self.mesh.sockets / f"{name}.api.sock"

    def app_port(self, port: int | str) -> int | None:
        """The number of a port of the application, given by number or by name."""
        if isinstance(port, int):
            return port
        return next((each.app for each in self.inbound if each.name == port), None)

    def placement(self, *, ready: bool, pid: int | None, proxy_pid: int | None) -> wire.PlacementView:
        """The place as the control plane wants to know it."""
        return wire.PlacementView(
            outbound=self.outbound, admin=self.admin, inbound=list(self.inbound), upstreams=list(self.upstreams),
            ready=ready, pid=pid, proxy_pid=proxy_pid,
            network_namespace="" if self.namespace is None else str(self.namespace.path),
        )


def _folder(mesh: MeshSite, view: wire.WorkloadView) -> Path:
    folder = mesh.state / "workloads" / f"{view.namespace}.{view.name}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def app_environment(site: Site) -> dict[str, str]:
    """The environment of a workload's own process: its HTTP traffic leaves through its sidecar, its identity is at
    `SPIFFE_ENDPOINT_SOCKET` where it asks for one.

    Picked ports are there as `PORT_<NAME>` and `UPSTREAM_<SERVICE>_PORT`. The declared ``env`` comes last, may
    change any of it, and may refer to the rest by `$(NAME)`.
    """
    known = {**site.mesh.base_env, **proxy_variables(site.outbound), **port_variables(site)}
    if site.identity_socket is not None:
        known[SPIFFE_ENDPOINT] = f"unix://{site.identity_socket}"
    return {**known, **{name: expand(value, known) for name, value in site.view.env.items()}}


def port_variables(site: Site) -> dict[str, str]:
    """The picked and declared ports by variable; of two upstreams to one service the first is meant."""
    found = {f"UPSTREAM_{_shout(each.service)}_PORT": str(each.local_port) for each in reversed(site.upstreams)}
    found.update({f"PORT_{_shout(each.name)}": str(each.app) for each in site.inbound if each.name})
    return found


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` as Kubernetes does: unknown names stay as they are, `$$(NAME)` becomes `$(NAME)`."""

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return f"$({match[2]})"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def _shout(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
