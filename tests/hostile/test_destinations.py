"""Rows 52 to 54: ports of the proxy dialed directly or through itself, tunnels to elsewhere, headers that name another
destination, and addresses that nobody may reach through a proxy.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from attack.frames import Session, heard
from attack.judge import good_request
from attack.positions import POSITIONS, Arena, Position, arena
from attack.wire import CLOSED, RESET, converse
from case_harness.compilation import compile_alone

from harness.proxies import DataPlane

Arenas = Callable[[Position, DataPlane], Arena]

pytestmark = pytest.mark.integration

PATIENCE_S = 15.0

ROAMER = """
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: client, labels: {app: client}}
spec: {serviceAccount: client, ports: [{name: http, port: 9100}]}
---
apiVersion: v1
kind: Service
metadata: {name: backend-service}
spec: {selector: {app: backend}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: backend}
spec: {address: 10.0.0.1, labels: {app: backend}, serviceAccount: backend}
---
apiVersion: tulle.dev/v1alpha1
kind: MeshSettings
metadata: {name: anywhere}
spec: {egress: {unknownHosts: AllowAny}}
"""
"""A caller that may call whatever exists, and nothing that is local."""


@dataclass(slots=True)
class Decoy:
    """A port that nobody should be led to."""

    listening: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        port: int = self.listening.getsockname()[1]
        return port

    def met(self) -> bool:
        """Whether somebody came: the kernel has the connection queued before its maker goes on."""
        self.listening.setblocking(False)
        try:
            self.listening.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def decoy() -> Iterator[Decoy]:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield Decoy(listening)


def _trusted(bootstrap: dict[str, Any]) -> None:
    """The service's endpoint is played by one of this machine; only what a request names is to be looked at."""
    for cluster in bootstrap["static_resources"]["clusters"]:
        if cluster["name"].startswith("outbound|"):
            cluster.get("metadata", {}).get("filter_metadata", {}).pop("tulle.dev/egress", None)


@pytest.fixture(scope="module")
def roamers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[DataPlane], Arena]]:
    """The caller of ROAMER on a data plane; each is started once."""
    running: dict[str, Arena] = {}
    with contextlib.ExitStack() as stack:

        def get(plane: DataPlane) -> Arena:
            if plane.name not in running:
                folder = tmp_path_factory.mktemp(plane.name)
                made = arena("outbound", plane, folder, _trusted, compilation=compile_alone(ROAMER))
                running[plane.name] = stack.enter_context(made)
            return running[plane.name]

        yield get


@pytest.fixture
def roamer(plane: DataPlane, roamers: Callable[[DataPlane], Arena]) -> Arena:
    found = roamers(plane)
    found.application.forget()
    return found


def _get(at: Arena, host: str, fields: str = "") -> list[int]:
    with at.connect() as line:
        return converse(line, [f"GET /x HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()], 1).statuses


@pytest.mark.parametrize("listener", ["outbound", "inbound|9100"])
def test_a_proxy_does_not_call_itself(roamer: Arena, listener: str) -> None:
    """Row 52: no loop, though its own ports are what the request asks for."""
    for number, host in enumerate(OWN):
        call = f"{listener}-{number}"
        named = f"{host}:{roamer.ports[listener]}"
        assert set(_get(roamer, named, f"x-call: {call}\r\n")) <= {403, 503}
        assert _logged(roamer, call) == 1, "it was looked at once"
    assert not list(good_request(roamer))


OWN = ("127.0.0.1", "localhost", "127.0.0.2", "[::ffff:127.0.0.1]")


def _logged(at: Arena, call: str) -> int:
    """How many lines of the access log are about a call, once there is one."""
    log = at.output.parent / "access.log"
    deadline = time.monotonic() + PATIENCE_S
    while not (found := log.read_text().count(f"{call}\t") if log.exists() else 0):
        assert time.monotonic() < deadline, "nothing is logged"
        time.sleep(0.01)
    return found


def test_an_application_may_not_call_the_admin_port_by_its_proxy(roamer: Arena, plane: DataPlane) -> None:
    """Row 52: what listens on the machine for the machine is not reached with the proxy's help."""
    ports = _listening(roamer.process.pid) - set(roamer.ports.values())
    assert ports, "the admin port is among them"
    for port in ports:
        assert set(_get(roamer, f"127.0.0.1:{port}")) == {403}
    assert not list(good_request(roamer))


def _listening(pid: int) -> set[int]:
    """The TCP ports that a process listens on."""
    inodes = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(each[1].rpartition(":")[2], 16)
        for each in lines
        if each[3] == "0A" and f"socket:[{each[9]}]" in inodes
    }


def test_an_inbound_port_is_no_outbound_one(plane: DataPlane, arenas: Arenas) -> None:
    """Row 52: whatever host a caller names, an inbound port leads to its application only."""
    inbound = arenas("inbound", plane)
    inbound.application.forget()
    for host in ("backend-service", "127.0.0.1:1", "169.254.169.254"):
        assert _get(inbound, host) == [200]
    assert [each.path for each in inbound.application.snapshot().requests] == ["/x"] * 3
    assert not list(good_request(inbound))


NO_TUNNEL = {400, 403, 404, 405, 502}
TUNNELS = ("127.0.0.1:{decoy}", "localhost:{decoy}", "[::1]:{decoy}", "169.254.169.254:80", "{host}:{decoy}")


@pytest.mark.parametrize("position", POSITIONS)
def test_no_tunnel_to_elsewhere(plane: DataPlane, position: Position, arenas: Arenas, decoy: Decoy) -> None:
    """Row 53: CONNECT leads to no address that the request chooses, over HTTP/1.1 and HTTP/2."""
    found = arenas(position, plane)
    found.application.forget()
    for target in TUNNELS:
        named = target.format(decoy=decoy.port, host=found.host).encode()
        with found.connect() as line:
            said = converse(line, [b"CONNECT " + named + b" HTTP/1.1\r\nHost: " + named + b"\r\n\r\n"], 1)
        assert set(said.statuses) <= NO_TUNNEL, (named, said)
        assert said.statuses or said.fate in {CLOSED, RESET}
        with found.connect("h2") as line:
            session = Session(line)
            stream = session.request([(b":method", b"CONNECT"), (b":authority", named)])
            session.until(stream)
            assert set(heard(session, stream).statuses) <= NO_TUNNEL, named
    assert not decoy.met()
    assert not found.application.snapshot().all_bytes()
    assert not list(good_request(found))


NAMING = (
    "x-envoy-original-dst-host", "x-istio-original-dst-host", "x-envoy-upstream-alt-stat-name",
    "x-istio-attributes",
)  # fmt: skip


@pytest.mark.parametrize("position", ["inbound", "outbound"])
def test_headers_name_no_destination(
    plane: DataPlane, position: Position, arenas: Arenas, decoy: Decoy
) -> None:
    """Row 54: such headers are taken off, and what was decided on without them is called."""
    found = arenas(position, plane)
    found.application.forget()
    fields = "".join(f"{name}: 127.0.0.1:{decoy.port}\r\n" for name in NAMING)
    assert _get(found, found.host, fields) == [200]
    [asked] = found.application.snapshot().requests
    assert {name: asked.values(name) for name in NAMING} == {name: [] for name in NAMING}
    assert not decoy.met()


LOCAL = (
    "127.0.0.1", "127.1", "127.0.0.1.", "0.0.0.0", "0", "localhost", "LOCALHOST", "localhost.", "2130706433", "0x7f.1",
    "0177.0.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[64:ff9b::7f00:1]",
    "[::127.0.0.1]",
)  # fmt: skip
ADDRESSES = (
    "169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[fe80::1]",
    "100.100.100.200", "168.63.129.16",
)  # fmt: skip
METADATA = (
    *ADDRESSES, "169.254.169.254.", "2852039166", "0xa9fea9fe", "169.254.43518", "[64:ff9b::a9fe:a9fe]",
)  # fmt: skip


def test_nothing_local_is_reached_in_any_spelling(roamer: Arena, decoy: Decoy) -> None:
    """Row 54: loopback, however it is written or resolved."""
    answers = {host: _get(roamer, f"{host}:{decoy.port}") for host in LOCAL}
    assert {
        host: found for host, found in answers.items() if not found or found[0] not in {400, 403, 503}
    } == {}
    assert not decoy.met()
    assert not list(good_request(roamer))


def test_no_metadata_is_reached_in_any_spelling(roamer: Arena) -> None:
    """Row 54: where clouds hand out credentials. 503: the name is none, or nothing resolves it."""
    answers = {host: _get(roamer, f"{host}:80") for host in METADATA}
    assert {
        host: found for host, found in answers.items() if not found or found[0] not in {400, 403, 503}
    } == {}
    assert {host for host, found in answers.items() if found == [403]} >= set(ADDRESSES)
    assert not list(good_request(roamer))


def test_nothing_declared_leads_there_either(plane: DataPlane, tmp_path: Path, decoy: Decoy) -> None:
    """Row 54: a ServiceEntry whose name resolves to loopback."""
    entry = """---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: trap}
spec: {hosts: [trap.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC,
       endpoints: [{address: 169.254.169.254}]}
"""
    compiled = compile_alone(ROAMER + entry)
    assert any("169.254.169.254" in each.message for each in compiled.diagnostics), compiled.diagnostics
