"""`tulle up --net ns`: each application alone in a network namespace, with its sidecar's sockets. Attack 52."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from mesh_load import Connection
from mesh_runner import TCP, TCP_ECHO, Mesh, StartMesh, alive, backend

from harness.namespaces import give_up_privilege, inhabitants, inode, namespaces_or_skip, refused, within

NS = ("--net", "ns")

CONFIG = f"""{TCP}---{backend("v1")}
apiVersion: v1
kind: Service
metadata: {{name: backend}}
spec:
  selector: {{app: backend}}
  ports: [{{name: http, port: 9001, targetPort: http}}]
---
apiVersion: tulle.dev/v1alpha1
kind: MeshSettings
metadata: {{name: anywhere}}
spec: {{egress: {{unknownHosts: AllowAny}}}}
"""
"""Whatever exists may be called, so that what is not reached is not there."""

APPLICATIONS = ("backend-v1", "upper-1")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, data_plane: str) -> Iterator[Mesh]:
    """One mesh for what leaves it as it was."""
    namespaces_or_skip()
    folder = tmp_path_factory.mktemp("standing") / "mesh"
    with Mesh.running(folder, CONFIG, data_plane, {"upper.py": TCP_ECHO}, NS) as mesh:
        yield mesh


@pytest.fixture
def mesh(standing: Mesh) -> Iterator[Mesh]:
    standing.read_ready()
    yield standing
    standing.restore()


def place(mesh: Mesh, workload: str) -> str:
    return str(mesh.workload(workload)["network_namespace"])


def port_of(mesh: Mesh, application: str) -> int:
    return int(mesh.workload(application)["ports"][0]["port"])


def call(mesh: Mesh, authority: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """A request of the client's, from where the client is."""
    port = int(mesh.workload("client")["outbound"])
    return within(place(mesh, "client"), lambda: Connection(port, authority).get("/", headers))


def test_only_its_sidecar_reaches_an_application(mesh: Mesh) -> None:
    """Neither the machine nor another application does; what is dialed past the sidecar is not there."""
    for application in APPLICATIONS:
        dial = partial(refused, port_of(mesh, application))
        assert not within(place(mesh, application), dial), "it listens, in there"
        assert dial()
        others = [each["name"] for each in mesh.ready["workloads"] if each["name"] != application]
        assert {name: within(place(mesh, name), dial) for name in others} == dict.fromkeys(others, True)


def test_calls_go_by_the_sidecars(mesh: Mesh) -> None:
    status, body = call(mesh, "backend:9001")
    assert (status, b'"name": "v1"' in body) == (200, True)
    assert within(place(mesh, "client"), partial(shout, upstream(mesh))) == b"HELLO\n"


def upstream(mesh: Mesh) -> int:
    return int(mesh.placed("client")["upstreams"][0]["local_port"])


def shout(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as line, line.makefile("rb") as answers:
        line.sendall(b"hello\n")
        return answers.readline()


def test_an_application_reaches_its_sidecar_and_nothing_else(mesh: Mesh) -> None:
    """No port of the machine: no admin port, no inbound one, no control plane; no other address at all."""
    client = mesh.workload("client")
    listening = {int(client["outbound"]), upstream(mesh)}
    ports = [int(each["admin"]) for each in mesh.ready["workloads"]]
    ports += [int(each["inbound"]) for each in mesh.ready["workloads"] if each["inbound"]]
    ports += [int(each["outbound"]) for each in mesh.ready["workloads"]]
    ports += [int(mesh.ready[name].rpartition(":")[2]) for name in ("api", "xds")]
    found = {port: within(place(mesh, "client"), partial(refused, port)) for port in {*ports, *listening}}
    assert {port for port, nobody in found.items() if not nobody} == listening
    with pytest.raises(OSError, match="unreachable"):
        within(place(mesh, "client"), partial(refused, 80, "192.0.2.1"))


def test_ports_of_sidecars_are_no_way_in(mesh: Mesh) -> None:
    """From outside the outbound ports are not there, and inbound ones take mutual TLS only."""
    for each in mesh.ready["workloads"]:
        assert refused(int(each["outbound"]))
    assert refused(upstream(mesh))
    with pytest.raises(OSError):
        Connection(int(mesh.workload("backend-v1")["inbound"]), "backend:9001").get()


def test_no_call_leads_back_to_the_machine_or_in_a_circle(mesh: Mesh) -> None:
    """By the sidecar too, though it is outside: what listens on the machine, or looks like the sidecar itself, is
    refused, once.
    """
    client = mesh.workload("client")
    api = mesh.ready["api"].rpartition(":")[2]
    for number, port in enumerate((client["outbound"], client["admin"], mesh.workload("backend-v1")["inbound"], api)):
        name = f"circle-{number}"
        status, _ = call(mesh, f"127.0.0.1:{port}", {"user-agent": name})
        assert status in {403, 503}
        mesh.until(partial(logged, mesh, name), "it is logged")
        assert logged(mesh, name) == 1
    assert call(mesh, "backend:9001")[0] == 200


def logged(mesh: Mesh, name: str) -> int:
    """How many lines of the client's access log are about a call."""
    return (mesh.folder / "state" / "logs" / "default.client.access.log").read_text().count(name)


def test_the_applications_have_no_way_out(mesh: Mesh) -> None:
    """Their own processes are inside, with `lo`, and without what would take root to another namespace."""
    for application in APPLICATIONS:
        process = Path("/proc") / str(mesh.workload(application)["pid"])
        assert inode(process / "ns" / "net") == inode(place(mesh, application)) != inode("/proc/self/ns/net")
        interfaces = (process / "net" / "dev").read_text().splitlines()[2:]
        assert [each.split(":")[0].strip() for each in interfaces] == ["lo"]
        [bounding] = [each for each in (process / "status").read_text().splitlines() if each.startswith("CapBnd")]
        assert not int(bounding.split()[1], 16) & (1 << 21 | 1 << 12 | 1 << 19), "SYS_ADMIN, NET_ADMIN, SYS_PTRACE"
        proxy = mesh.workload(application)["proxy_pid"]
        assert inode(f"/proc/{proxy}/ns/net") == inode("/proc/self/ns/net")


def test_exec_goes_inside_or_nowhere(mesh: Mesh) -> None:
    here = "import os; print(os.stat('/proc/self/ns/net').st_ino)"
    ran = mesh.tulle("exec", "client", "--", sys.executable, "-c", here)
    assert (ran.stdout.strip(), ran.stderr) == (str(inode(place(mesh, "client"))), "")
    argv = [sys.executable, "-m", "tulle.cli", "exec", "client", "--", "echo", "it ran"]
    environment = {**os.environ, "TULLE_API": mesh.ready["api"]}
    ran = subprocess.run(
        argv, capture_output=True, text=True, env=environment, preexec_fn=give_up_privilege, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "needs root" in ran.stderr


@pytest.mark.parametrize("part", ["pid", "proxy_pid"])
def test_what_dies_is_started_again_where_it_was(mesh: Mesh, part: str) -> None:
    before, victim = inode(place(mesh, "backend-v1")), int(mesh.workload("backend-v1")[part])
    os.kill(victim, signal.SIGKILL)

    def again() -> bool:
        mesh.read_ready()
        return mesh.workload("backend-v1")[part] not in {None, victim}

    mesh.until(again, "it runs again")
    mesh.until(lambda: call(mesh, "backend:9001")[0] == 200, "it is called again")
    assert inode(place(mesh, "backend-v1")) == before


DECLARED = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: books}}
spec:
  hosts: [books.internal]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.9}}]
---
apiVersion: tulle.dev/v1alpha1
kind: MeshSettings
metadata: {{name: anywhere}}
spec: {{egress: {{unknownHosts: RegistryOnly, allowedAddresses: [127.0.0.9/32]}}}}
"""


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def unmeshed() -> Iterator[int]:
    """A server of the machine's that is no workload; its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.9", 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_is_declared_is_reached_on_the_machine(mesh: Mesh) -> None:
    with unmeshed() as port:
        assert call(mesh, f"127.0.0.9:{port}")[0] in {403, 503}, "not before it is declared"
        mesh.apply(DECLARED.format(port=port))
        mesh.until(lambda: call(mesh, "books.internal")[0] == 200, "it is called")
        mesh.ask("objects", "serviceentry", "default", "books", method="DELETE")
        mesh.until(lambda: call(mesh, "books.internal")[0] != 200, "it is not called any more")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_nothing_is_left(start_mesh: StartMesh, how: signal.Signals) -> None:
    namespaces_or_skip()
    mesh = start_mesh(CONFIG, {"upper.py": TCP_ECHO}, NS)
    links = [Path(place(mesh, each["name"])) for each in mesh.ready["workloads"]]
    namespaces, pids = {inode(link) for link in links}, mesh.pids()
    assert len(namespaces) == len(links)
    mesh.process.send_signal(how)
    mesh.process.wait(60)
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids) or inhabitants(namespaces):
        assert time.monotonic() < deadline, "something is left"
        time.sleep(0.01)
    assert not [link for link in links if link.exists()]
