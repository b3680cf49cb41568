"""The control plane is away for half of the certificates' life: no request fails, and everything recovers by itself."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from mesh_load import Connection, Load
from mesh_runner import BACKEND, Mesh, StartMesh

AUTHORITY, COLD = "backend:9001", "cold:9002"
LIFE = 50
# Connections between sidecars end after five requests, so that handshakes go on all the time. The service `cold` is
# called for the first time while the control plane is away.
CONFIG = (
    BACKEND.replace(
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


def ca(mesh: Mesh) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mesh.tulle("ca", "status", "-o", "json").stdout)
    return found


def test_half_of_the_certificates_life_without_control_plane_fails_no_request(start_mesh: StartMesh) -> None:
    mesh = start_mesh(CONFIG, options=["--leaf-life", str(LIFE)])
    outbound = int(mesh.workload("client")["outbound"])
    with Load(outbound, AUTHORITY, threads=2) as load:
        # Everybody gets a fresh certificate.
        rotated = mesh.tulle("ca", "rotate", "--wait")
        assert rotated.returncode == 0, rotated.stderr
        before = ca(mesh)["forecast"]["expires"]
        os.kill(mesh.ready["control_plane_pid"], signal.SIGSTOP)
        back = time.monotonic() + LIFE / 2
        try:
            cold = Connection(outbound, COLD)
            assert cold.get()[0] == 200, "a destination that was never called before"
            cold.close()
            while time.monotonic() < back:
                load.wait_for(10)
        finally:
            os.kill(mesh.ready["control_plane_pid"], signal.SIGCONT)
        mesh.until(lambda: ca(mesh)["forecast"]["expires"] > before, "every certificate has been renewed", LIFE)
        load.wait_for(50)
    assert not load.failures
