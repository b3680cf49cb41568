"""How a mesh ends, and what happens when parts of it die."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mesh_load import Connection, Load
from mesh_runner import BACKEND, Mesh, StartMesh, alive, established

AUTHORITY = "backend.default:9001"


@pytest.fixture
def mesh(start_mesh: StartMesh) -> Mesh:
    """Each test ends its mesh in its own way."""
    return start_mesh()


def outbound(mesh: Mesh) -> int:
    return int(mesh.workload("client")["outbound"])


def test_stopping_under_load_fails_no_request_and_leaves_no_process(mesh: Mesh, data_plane: str) -> None:
    pids = mesh.pids()
    assert len(pids) >= 7
    stock = data_plane == "envoy"
    with Load(outbound(mesh), AUTHORITY, refused_is_the_end=True, unserved_before_the_end=stock) as load:
        load.wait_for(200)
        assert mesh.stop() == 0
    assert not load.failures
    assert not [pid for pid in pids if alive(pid)]
    assert not (mesh.folder / "ready.json").exists()


def test_a_slow_request_in_flight_is_answered_before_the_mesh_ends(mesh: Mesh) -> None:
    connection = Connection(outbound(mesh), AUTHORITY)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(connection.get, "/", {"x-sleep": "3"})
        backends = [mesh.workload(name)["inbound"] for name in ("backend-v1", "backend-v2")]
        mesh.until(lambda: any(established(port) for port in backends), "the request is on its way")
        assert mesh.stop() == 0
        assert slow.result()[0] == 200


def test_killing_the_supervisor_leaves_no_process(mesh: Mesh) -> None:
    pids = mesh.pids()
    mesh.process.kill()
    mesh.process.wait()
    for _ in range(1000):
        if not any(alive(pid) for pid in pids):
            break
        time.sleep(0.01)
    assert not [pid for pid in pids if alive(pid)]


@pytest.mark.parametrize("part", ["pid", "proxy_pid"])
def test_what_dies_is_started_again(mesh: Mesh, part: str) -> None:
    victim = mesh.workload("backend-v1")[part]
    os.kill(victim, signal.SIGKILL)

    def restarted() -> bool:
        mesh.read_ready()
        return mesh.workload("backend-v1")[part] not in (None, victim)

    mesh.until(restarted, "it runs again")

    def both() -> bool:
        connection = Connection(outbound(mesh), AUTHORITY)
        return len({connection.get()[1] for _ in range(60)}) == 2

    mesh.until(both, "both versions answer")


def test_a_configuration_that_is_wrong_from_the_start_ends_with_its_place(tmp_path: Path) -> None:
    wrong = BACKEND.replace("subsets:", "subset:")
    mesh = Mesh.start(tmp_path / "mesh", wrong, "envoy")
    assert mesh.process.wait(60) == 2
    assert "mesh.yaml:" in (mesh.folder / "up.log").read_text()
    assert "spec.subset" in (mesh.folder / "up.log").read_text()
