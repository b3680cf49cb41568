"""A mesh whose control plane goes away, and what its sidecars make of that."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from mesh_load import Connection
from mesh_runner import BACKEND, Mesh, route, stopped

AUTHORITY, COLD = "backend:9001", "cold:9002"
KEPT = "the one kept on disk is in force"
"""What a tulle-proxy says that was started without a control plane."""
WRITTEN_AFTER_S = 0.5
"""How long after a change a tulle-proxy keeps what it has then."""
RETRIED = """
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: backend-route}
spec:
  hosts: [backend]
  http:
  - retries: {attempts: 4, retryOn: "connect-failure,refused-stream,reset"}
    route: [{destination: {host: backend}}]
"""
# Connections between sidecars end after five requests, so that handshakes go on all the time. The service `cold` is
# called for the first time while the control plane is away.
CONFIG = (
    BACKEND.replace(route(90, 10), RETRIED).replace(
        "  host: backend\n  subsets",
        "  host: backend\n  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 5}}}\n  subsets",
    )
    + """---
apiVersion: v1
kind: Service
metadata: {name: cold, namespace: default}
spec:
  selector: {app: backend, version: v2}
  ports: [{name: http, port: 9002, targetPort: http}]
"""
)
EJECTING = CONFIG.replace(
    "trafficPolicy: {",
    "trafficPolicy: {outlierDetection: "
    "{consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 50}, ",
)
"""The same, for when a proxy is away for some seconds: the retry budget alone is a fifth of the requests, and half of
them are for a destination of two that does not answer.
"""


def outbound(mesh: Mesh) -> int:
    return int(mesh.workload("client")["outbound"])


def folder(mesh: Mesh, workload: str) -> Path:
    return mesh.folder / "state" / "workloads" / f"default.{workload}"


def said(mesh: Mesh, workload: str) -> str:
    """What a workload's tulle-proxy has said."""
    return (mesh.folder / "state" / "logs" / f"default.{workload}.proxy.log").read_text(errors="replace")


def is_ready(mesh: Mesh, workload: str) -> bool:
    """Whether a workload's proxy says that it is ready. Its port stays, whatever happens to the control plane."""
    bootstrap = json.loads((folder(mesh, workload) / "bootstrap.json").read_text())
    port = bootstrap["admin"]["address"]["socket_address"]["port_value"]
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


def status(mesh: Mesh, authority: str = AUTHORITY) -> int:
    """The status of one request of the client's; 0 when there is no answer."""
    connection = Connection(outbound(mesh), authority)
    try:
        return connection.get()[0]
    except OSError:
        return 0
    finally:
        connection.close()


@contextmanager
def gone(mesh: Mesh) -> Iterator[None]:
    """A control plane that is killed and does not come up again: the next one gets no time before it listens."""
    before = mesh.control_plane()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    mesh.until(lambda: mesh.control_plane() not in (None, before), "another one is started")
    with stopped(mesh.control_plane()):
        assert not mesh.is_there()
        yield


def until_kept(mesh: Mesh) -> None:
    """Waits until every sidecar has its whole configuration on disk: a change is written half a second after it came,
    so files that have not changed for some times that hold the last one."""
    files = [folder(mesh, each["name"]) / "identity" / "configuration" for each in mesh.ready["workloads"]]
    written: list[int] = []
    since = time.monotonic()

    def settled() -> bool:
        nonlocal written, since
        now = [file.stat().st_mtime_ns for file in files if file.exists()]
        if now != written:
            written, since = now, time.monotonic()
        return len(now) == len(files) and time.monotonic() - since > 4 * WRITTEN_AFTER_S

    mesh.until(settled, "all is kept")


def restart(mesh: Mesh, workload: str) -> None:
    """Kills a workload's tulle-proxy and waits until there is another, which is ready."""
    before = mesh.holder(workload)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    mesh.until(lambda: mesh.holder(workload) not in (None, before), f"{workload}'s proxy is started again")
    mesh.until(lambda: is_ready(mesh, workload), f"{workload}'s proxy is ready again")
