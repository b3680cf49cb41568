"""A proxy where it stands: beside a workload for what comes in or goes out, or at the edge; Envoy or tulle-proxy."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any, Literal

from case_harness.assemble import Assembler
from case_harness.compilation import Compilation, compile_files

from attack import gateway
from attack.upstream import Application
from attack.wire import PATIENCE_S, Line
from harness.identities import Identities
from harness.proxies import DataPlane, PortHolder, connected, running

Position = Literal["inbound", "outbound", "gateway"]
POSITIONS: tuple[Position, ...] = ("inbound", "outbound", "gateway")

MESH = Path(__file__).resolve().parent.parent / "mesh.yaml"
WORKLOADS: dict[Position, str] = {"inbound": "shop", "outbound": "client"}
LISTENERS: dict[Position, str] = {
    "inbound": "inbound|9100",
    "outbound": "outbound",
    "gateway": gateway.PLAIN,
}
HOSTS: dict[Position, str] = {"inbound": "shop", "outbound": "backend-service", "gateway": gateway.HOST}

DELAYED_CLOSE = "0.05s"
"""How long Envoy leaves a connection open that it ends; its default of a second would be most of the suite's time."""


@dataclass(slots=True)
class Arena:
    """A running proxy in its position, with the application behind it and an attacker's way in."""

    position: Position
    plane: DataPlane
    process: Popen[bytes]
    output: Path
    ports: dict[str, int]
    application: Application
    identities: Identities

    @property
    def host(self) -> str:
        """The authority of a good request."""
        return HOSTS[self.position]

    def connect(self, protocol: str = "http/1.1", patience: float = PATIENCE_S) -> Line:
        """A connection of a caller who is let in."""
        port = self.ports[LISTENERS[self.position]]
        plain = connected(port, PATIENCE_S)
        if self.position != "inbound":
            return Line(plain, patience)
        context = self.identities.client("default", "attacker")
        context.set_alpn_protocols([protocol])
        return Line(context.wrap_socket(plain), patience)

    def upgraded(self, context: ssl.SSLContext) -> Line:
        """A connection to the position's listener with a TLS context of the caller's choice."""
        return Line(context.wrap_socket(connected(self.ports[LISTENERS[self.position]], PATIENCE_S)))

    def secure(self, context: ssl.SSLContext, server_name: str | None) -> Line:
        """A TLS connection to the gateway's secure listener."""
        plain = connected(self.ports[gateway.SECURE], PATIENCE_S)
        return Line(context.wrap_socket(plain, server_hostname=server_name))

    def alive(self) -> str | None:
        """What is wrong with the process, if anything is."""
        if self.process.poll() is not None:
            return f"{self.plane.name} ended with {self.process.returncode}: {self.said()}"
        if b"panicked at" in self.output.read_bytes():
            return f"{self.plane.name} panicked: {self.said()}"
        return None

    def said(self) -> str:
        """The end of its output."""
        return self.output.read_text(errors="replace")[-3000:]

    def health(self) -> int:
        """The status that the health port answers with."""
        (port,) = listening(self.process.pid) - set(self.ports.values())
        with Line(connected(port, PATIENCE_S)) as line:
            line.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reply = line.read_reply()
        assert reply is not None, line.fate
        return reply.status

    def peak_from_here(self) -> None:
        """Begin to measure the highest resident memory."""
        peak_from_here(self.process.pid)

    def memory(self) -> tuple[int, int]:
        """Resident memory now and at its highest, in bytes."""
        return resident(self.process.pid)


def peak_from_here(pid: int) -> None:
    """Begin to measure a process's highest resident memory."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident(pid: int) -> tuple[int, int]:
    """A process's resident memory now and at its highest, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}
    return found["VmRSS"], found["VmHWM"]


def listening(pid: int) -> set[int]:
    """TCP ports that a process listens on."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # Closed meanwhile.
            links.append(str(link.readlink()))
    own = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in own}


Bootstrap = dict[str, Any]


@contextlib.contextmanager
def arena(
    position: Position,
    plane: DataPlane,
    folder: Path,
    change: Callable[[Bootstrap], None] = lambda _: None,
    identities: Identities | None = None,
    compilation: Compilation | None = None,
) -> Iterator[Arena]:
    """A running arena; `change` may alter its static bootstrap first. `identities` are new ones unless given, and
    the mesh is the suite's own unless another's `compilation` is.
    """
    with contextlib.ExitStack() as stack:
        application = stack.enter_context(Application())
        holder = PortHolder()
        stack.callback(holder.close)
        identities = identities or Identities()
        if position == "gateway":
            bootstrap, ports = _gateway(holder, application, identities)
        else:
            compiled = compilation or compile_files([MESH])
            workload = WORKLOADS[position]
            assembler = Assembler(holder, application.add, folder / "access.log", identities)
            made = assembler.assemble(compiled.snapshot(workload, plane.client), workload)
            bootstrap, ports = made.bootstrap, made.ports
            for manager in managers(bootstrap):
                manager["http_filters"].insert(0, gateway.texts())
        for manager in managers(bootstrap):
            manager["delayed_close_timeout"] = DELAYED_CLOSE
        change(bootstrap)
        process = stack.enter_context(running(plane, bootstrap, ports.values(), folder))
        yield Arena(position, plane, process, folder / "output", ports, application, identities)


def managers(bootstrap: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every HTTP connection manager of a static bootstrap."""
    for listener in bootstrap["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            for each in chain["filters"]:
                if each["typed_config"]["@type"].endswith("HttpConnectionManager"):
                    yield each["typed_config"]


def _gateway(
    holder: PortHolder, application: Application, identities: Identities
) -> tuple[dict[str, Any], dict[str, int]]:
    ports = {gateway.PLAIN: holder(), gateway.SECURE: holder()}
    plain = gateway.manager([gateway.HOST, "secret.example"])
    listeners = [
        gateway.listener(gateway.PLAIN, ports[gateway.PLAIN], [{"filters": [plain]}]),
        gateway.secure_listener(ports[gateway.SECURE], identities),
    ]
    clusters = [gateway.cluster(application.add("shop"))]
    return {
        "node": {"id": "router~127.0.0.1~gateway.default~default.svc.cluster.local", "cluster": "gateway"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }, ports
