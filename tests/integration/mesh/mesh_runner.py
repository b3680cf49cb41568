"""A mesh under test: `tulle up` as a process, its ready file, its CLI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tulle.cli.client import Client
from tulle.cli.failure import Failure

READY_SECONDS = 60
STOP_SECONDS = 60

ECHO = '''
import http.server, json, os, socketserver, sys, time
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write, or each answer waits for a delayed ACK
    def do_GET(self):
        time.sleep(float(self.headers.get("x-sleep", "0")))
        body = json.dumps({"name": os.environ["NAME"], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256
Server(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
'''

_WORKLOAD = """
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: backend-{version}, namespace: default, labels: {{app: backend, version: {version}}}}}
spec:
  serviceAccount: backend
  ports: [{{name: http, port: 0}}]
  command: [{python}, echo.py, $(PORT_HTTP)]
  env: {{NAME: {version}}}
---"""


def backend(version: str) -> str:
    """One echo server's Workload, with a document separator after it."""
    return _WORKLOAD.format(version=version, python=sys.executable)


def route(v1: int, v2: int) -> str:
    """Seed 003's canary, with these weights."""
    return f"""
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: backend-route
spec:
  hosts:
  - backend
  http:
  - match:
    - headers:
        user-type:
          exact: internal
    route:
    - destination:
        host: backend
        subset: v2
  - route:
    - destination:
        host: backend
        subset: v1
      weight: {v1}
    - destination:
        host: backend
        subset: v2
      weight: {v2}
"""


BACKEND = f"""
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: client, namespace: default, labels: {{app: client}}}}
spec: {{serviceAccount: client}}
---{backend("v1")}{backend("v2")}
apiVersion: v1
kind: Service
metadata: {{name: backend, namespace: default}}
spec:
  selector: {{app: backend}}
  ports: [{{name: http, port: 9001, targetPort: http}}]
---{route(90, 10)}---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: backend-destination
spec:
  host: backend
  subsets:
  - name: v1
    labels: {{version: v1}}
  - name: v2
    labels: {{version: v2}}
"""


TCP_ECHO = """
import socketserver, sys
class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", int(sys.argv[1])), Upper).serve_forever()
"""

TCP = f"""
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: client, labels: {{app: client}}}}
spec:
  serviceAccount: client
  upstreams: [{{service: upper, port: 7000, localPort: 0}}]
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {{name: upper-1, labels: {{app: upper}}}}
spec:
  serviceAccount: upper
  ports: [{{name: tcp, port: 0}}]
  command: [{sys.executable}, upper.py, $(PORT_TCP)]
---
apiVersion: v1
kind: Service
metadata: {{name: upper}}
spec:
  selector: {{app: upper}}
  ports: [{{name: tcp, port: 7000, targetPort: tcp}}]
"""


@dataclass
class Mesh:
    """A running `tulle up`."""

    folder: Path
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]
    applied: set[tuple[str, str, str]] = field(default_factory=set)

    @classmethod
    def start(
        cls,
        folder: Path,
        config: str,
        data_plane: str,
        programs: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Mesh:
        """Starts a mesh from one file of objects; `echo.py` and other ``programs`` lie next to it."""
        (folder / "config").mkdir(parents=True)
        (folder / "config" / "mesh.yaml").write_text(config)
        for name, text in {"echo.py": ECHO, **(programs or {})}.items():
            (folder / "config" / name).write_text(text)
        log = (folder / "up.log").open("wb")
        argv = [sys.executable, "-m", "tulle.cli", "up", str(folder / "config"), "--data-plane", data_plane]
        argv += ["--state", str(folder / "state"), "--ready-file", str(folder / "ready.json"), *options]
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        log.close()
        return cls(folder, process, {})

    @classmethod
    @contextmanager
    def running(
        cls,
        folder: Path,
        config: str,
        data_plane: str,
        programs: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Iterator[Mesh]:
        """A mesh from when it is ready to the end of the block."""
        mesh = cls.start(folder, config, data_plane, programs, options)
        try:
            mesh.wait_ready()
            yield mesh
        finally:
            mesh.kill()

    def wait_ready(self) -> None:
        """Waits for the ready file and reads it."""
        self.until((self.folder / "ready.json").exists, "the mesh is ready", READY_SECONDS)
        self.read_ready()

    def read_ready(self) -> None:
        """Reads the ready file again: a restart changes it."""
        self.ready = json.loads((self.folder / "ready.json").read_text())

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
        """Polls until something holds; fails with the mesh's own output when it does not."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline or self.process.poll() is not None:
                tail = (self.folder / "up.log").read_text(errors="replace")[-4000:]
                state = f"exit status {self.process.returncode}" if self.process.poll() is not None else "running"
                raise AssertionError(f"not within {seconds} s: {what} ({state})\n{tail}")
            time.sleep(0.01)

    def workload(self, name: str) -> dict[str, Any]:
        """A workload's entry in the ready file."""
        return next(each for each in self.ready["workloads"] if each["name"] == name)

    def tulle(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the CLI against this mesh."""
        environment = {**os.environ, "TULLE_API": self.ready["api"]}
        argv = [sys.executable, "-m", "tulle.cli", *words]
        return subprocess.run(
            argv, capture_output=True, text=True, env=environment, input=text, timeout=60, check=False
        )

    def ask(self, *path: str, method: str = "GET") -> Any:
        """What the admin API says, without a process for each question. Raises `Failure`."""
        return Client(self.ready["api"]).send(method, ["v1", *path])

    def status(self) -> dict[str, Any]:
        """What `tulle status -o json` shows."""
        found: dict[str, Any] = self.ask("status")
        return found

    def ca(self) -> dict[str, Any]:
        """What `tulle ca status -o json` shows."""
        found: dict[str, Any] = self.ask("ca")
        return found

    def apply(self, text: str, *options: str) -> None:
        """`tulle apply`, until `restore`."""
        applied = self.tulle("apply", "-f", "-", "-o", "json", *options, text=text)
        assert applied.returncode == 0, applied.stderr
        objects = json.loads(applied.stdout)["objects"]
        self.applied.update((each["kind"], each["namespace"], each["name"]) for each in objects)

    def restore(self) -> None:
        """Deletes what was applied and has not been deleted, gives the revoked their identities back, and waits
        until every proxy is connected and knows.
        """
        for key in self.applied:
            with suppress(Failure):
                self.ask("objects", *key, method="DELETE")
        self.applied.clear()
        for name in self.ca()["revoked"]:
            self.ask("workloads", *name.split("/"), "revocation", method="DELETE")
        self.until(self.synced, "everybody knows that all is as it was")

    def is_there(self) -> bool:
        """Whether the control plane answers."""
        try:
            self.status()
        except Failure:
            return False
        return True

    def synced(self) -> bool:
        """Whether the control plane answers and every proxy is connected and has what it should have."""
        try:
            proxies = self.status()["proxies"]
        except Failure:
            return False
        return all(proxy["connected"] and proxy["synced"] for proxy in proxies)

    def placed(self, workload: str) -> dict[str, Any]:
        """Where a workload's sidecar is, as the control plane knows it."""
        found = {each["name"]: each["placement"] for each in self.status()["workloads"]}
        return dict(found[workload])

    def pids(self) -> set[int]:
        """Every process of the mesh: the supervisor and all below it."""
        found = {self.process.pid}
        while True:
            more = {child for pid in found for child in _children(pid)} - found
            if not more:
                return found
            found |= more

    def holder(self, workload: str) -> int | None:
        """The process that keeps a workload's identity: tulle-proxy, or Envoy's agent; None while there is none."""
        place = f"/default.{workload}/".encode()
        return self._find(lambda line: place in line and (b"tulle.agent" in line or b"--identity" in line))

    def control_plane(self) -> int | None:
        """The control plane's process; None while there is none."""
        return self._find(lambda line: b"\0control-plane\0" in line)

    def _find(self, wanted: Callable[[bytes], bool]) -> int | None:
        for pid in self.pids():
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if wanted(line):
                return pid
        return None

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Ends the mesh if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """A process that gets no time meanwhile."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


StartMesh = Callable[..., Mesh]
"""Starts a mesh from a configuration and further programs; what the fixture of that name gives."""

OnBothPlanes = Callable[[Callable[[Mesh, str], None], str, Sequence[str]], None]
"""Runs a scenario, given a mesh and its data plane, with a configuration and options of `tulle up`."""


def _children(pid: int) -> set[int]:
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def established(port: int) -> bool:
    """Whether some local TCP connection to this port of loopback is open."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = ((line.split()[1], line.split()[3]) for line in lines)
    return any(local.endswith(f":{port:04X}") and state == "01" for local, state in ends)
