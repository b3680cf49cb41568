"""The control plane is killed, or away until certificates expire: what goes on, what ends, what recovers.

Rows 1, 3 and 13 of the catalogue of faults.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading

from mesh_away import (
    AUTHORITY,
    COLD,
    CONFIG,
    EJECTING,
    KEPT,
    gone,
    is_ready,
    outbound,
    restart,
    said,
    status,
    until_kept,
)
from mesh_load import Load
from mesh_runner import Mesh, OnBothPlanes, StartMesh

LIFE = 20
UNANSWERED = "identity: cannot ask at"


def test_a_killed_control_plane_fails_no_request_to_warm_cold_and_restarted(
    start_mesh: StartMesh, data_plane: str
) -> None:
    mesh = start_mesh(EJECTING)
    if data_plane == "tulle":
        mesh.until(mesh.synced, "everybody has what there is")
        until_kept(mesh)
    with Load(outbound(mesh), AUTHORITY) as load:
        load.wait_for(50)
        with gone(mesh):
            load.wait_for(50)
            assert status(mesh, COLD) == 200, "a destination that was never called before"
            if data_plane == "tulle":  # stock Envoy keeps no configuration
                restart(mesh, "backend-v1")
                mesh.until(lambda: KEPT in said(mesh, "backend-v1"), "it says why it serves")
                before = load.answers["v1"]
                mesh.until(lambda: load.answers["v1"] > before + 10, "the restarted proxy serves")
            load.wait_for(50)
        mesh.until(mesh.synced, "everybody is connected again", 60)
        load.wait_for(50)
    assert not load.failures
    assert {proxy["name"]: proxy["pushes"] for proxy in mesh.status()["proxies"]} == dict.fromkeys(
        ("client", "backend-v1", "backend-v2"), 0
    ), "nobody is sent what it has"


class Slow(threading.Thread):
    """One request that takes as many seconds; `status` afterwards."""

    def __init__(self, port: int, seconds: int) -> None:
        super().__init__(daemon=True)
        self.status = 0
        self._port, self._seconds = port, seconds
        self.start()

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), self._seconds + 60) as connection:
            head = f"GET / HTTP/1.1\r\nHost: {AUTHORITY}\r\nx-sleep: {self._seconds}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            self.status = int(answer.split(b" ", 2)[1])


def test_certificates_that_expire_without_a_control_plane_raise_an_alarm_and_everything_recovers(
    on_both_planes: OnBothPlanes,
) -> None:
    on_both_planes(_expired, CONFIG, ["--leaf-life", str(LIFE)])


def _expired(mesh: Mesh, data_plane: str) -> None:
    with gone(mesh):
        slow = Slow(outbound(mesh), LIFE + 5)
        if data_plane == "tulle":
            ahead = re.compile(r"Error: identity: the certificate held ends in \d+ s")
            mesh.until(lambda: ahead.search(said(mesh, "client")) is not None, "there is an alarm in time", LIFE)
            assert status(mesh) == 200, "the alarm comes before the end"
        mesh.until(lambda: status(mesh) == 503, "new handshakes are refused", 3 * LIFE)
        if data_plane == "tulle":
            mesh.until(lambda: "has ended" in said(mesh, "backend-v1"), "it says why", LIFE)
            mesh.until(lambda: not is_ready(mesh, "backend-v1"), "who nobody can call is not ready")
        slow.join()
        assert slow.status == 200, "what was under way is finished"
        if data_plane == "tulle":
            restart_in_vain(mesh, "backend-v2")
            assert status(mesh) != 200
        else:  # Envoy takes what was under way as a sign that its connection may be used again, until it ends
            mesh.until(lambda: status(mesh) != 200, "and nothing new begins", 3 * LIFE)
    mesh.until(mesh.is_there, "the control plane is back", 60)
    mesh.until(lambda: status(mesh) == 200, "everybody has a certificate again", 60)
    assert mesh.ca()["forecast"]["seconds"] > 0


def restart_in_vain(mesh: Mesh, workload: str) -> None:
    """A proxy whose certificate has expired does not come back with it, whatever else it has kept."""
    before, asked = mesh.holder(workload), said(mesh, workload).count(UNANSWERED)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    mesh.until(lambda: mesh.holder(workload) not in (None, before), f"{workload}'s proxy is started again")
    # By the fourth time, all the patience that it has with a control plane is over.
    mesh.until(lambda: said(mesh, workload).count(UNANSWERED) >= asked + 4, "it asks for another certificate")
    assert not is_ready(mesh, workload)
