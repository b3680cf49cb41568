"""The mesh's trust under load: rotations of the root with a laggard and a killed control plane, and revocation."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mesh_load import Connection, Load
from mesh_runner import BACKEND, TCP, TCP_ECHO, Mesh, StartMesh, stopped

from tulle.identity import trust_state
from tulle.identity.trust_state import Phase

AUTHORITY = "backend:9001"
# Connections between sidecars end after five requests, so that handshakes go on all the time.
SHORT_LIVED = BACKEND.replace(
    "  host: backend\n  subsets",
    "  host: backend\n  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 5}}}\n  subsets",
)
ROTATIONS = 10
# In which of them one proxy is stopped, and when.
LAGS = {3: Phase.TRUST_BOTH, 6: Phase.SIGN_WITH_NEW}


@pytest.fixture
def mesh(start_mesh: StartMesh) -> Mesh:
    return start_mesh(SHORT_LIVED)


def outbound(mesh: Mesh) -> int:
    return int(mesh.workload("client")["outbound"])


def ca(mesh: Mesh) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mesh.tulle("ca", "status", "-o", "json").stdout)
    return found


def phase(mesh: Mesh) -> Phase:
    """How far the rotation is, as the control plane has written it down."""
    state = trust_state.load(mesh.folder / "state" / "ca")
    assert state is not None
    return state.phase


def until_phase(mesh: Mesh, *wanted: Phase) -> None:
    """Returns in the moment that a rotation has come through these phases."""
    deadline = time.monotonic() + 40
    for each in wanted:
        while phase(mesh) is not each:
            assert time.monotonic() < deadline, f"no {each}"
            time.sleep(0.001)


def lagging(mesh: Mesh) -> list[str]:
    return [each["name"] for each in ca(mesh)["lagging"]]


def rotated_past_a_laggard(mesh: Mesh, load: Load, at: Phase) -> bool:
    """A rotation during which backend-v2 gets no time from that phase on; whether that held the rotation up."""
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(mesh.tulle, "ca", "rotate")
        until_phase(mesh, at)
        with stopped(mesh.holder("backend-v2")):
            assert begun.result().returncode == 0, begun.result().stderr
            mesh.until(lambda: lagging(mesh) in (["backend-v2"], []), "nobody else lags")
            held = phase(mesh) is at
            load.wait_for(30)
            if held:
                assert (phase(mesh), len(ca(mesh)["roots"])) == (at, 2), "nothing goes on while one lags"
    mesh.until(lambda: phase(mesh) is Phase.STABLE, "everybody has followed", 40)
    return held


def test_ten_rotations_of_the_root_fail_no_request_and_wait_for_a_laggard(mesh: Mesh) -> None:
    assert mesh.tulle("apply", "-f", "-", text=ALL_TO_V1).returncode == 0
    mesh.until(mesh.synced, "all requests go to v1")
    seen = {ca(mesh)["roots"][0]["fingerprint"]}
    with Load(outbound(mesh), AUTHORITY, threads=2) as load:
        load.wait_for(50)
        for turn in range(ROTATIONS):
            if turn in LAGS:
                # Who has renewed before it is stopped does not lag; then the next rotation will do.
                assert any(rotated_past_a_laggard(mesh, load, LAGS[turn]) for _ in range(5))
            else:
                done = mesh.tulle("ca", "rotate", "--wait")
                assert done.returncode == 0, done.stderr
            seen.add(ca(mesh)["roots"][0]["fingerprint"])
            load.wait_for(20)
    assert not load.failures
    assert len(seen) == ROTATIONS + 1
    assert len(ca(mesh)["roots"]) == 1


def test_a_rotation_goes_on_wherever_the_control_plane_was_killed(mesh: Mesh) -> None:
    steps = [(Phase.TRUST_BOTH,), (Phase.SIGN_WITH_NEW,), (Phase.SIGN_WITH_NEW, Phase.STABLE)]
    with Load(outbound(mesh), AUTHORITY, threads=2) as load, ThreadPoolExecutor() as pool:
        load.wait_for(50)
        for step in steps:
            before, pid = ca(mesh)["roots"], mesh.status()["control_plane"]["pid"]
            begun = pool.submit(mesh.tulle, "ca", "rotate")
            until_phase(mesh, *step)
            os.kill(pid, signal.SIGKILL)
            begun.result()
            mesh.until(lambda: mesh.tulle("ca", "status").returncode == 0, "the control plane is back")
            mesh.until(lambda: phase(mesh) is Phase.STABLE, "the rotation has gone on to its end", 40)
            after = ca(mesh)["roots"]
            assert len(after) == 1
            assert after[0]["fingerprint"] != before[0]["fingerprint"]
            load.wait_for(30)
    assert not load.failures


def test_nothing_is_dropped_while_a_proxy_lags_and_a_killed_control_plane_goes_on(mesh: Mesh) -> None:
    assert mesh.tulle("apply", "-f", "-", text=ALL_TO_V1).returncode == 0
    mesh.until(mesh.synced, "all requests go to v1")
    first = ca(mesh)["roots"][0]["fingerprint"]
    with Load(outbound(mesh), AUTHORITY, threads=2) as load:
        load.wait_for(50)
        with stopped(mesh.holder("backend-v2")):
            begun = mesh.tulle("ca", "rotate")
            assert begun.returncode == 0, begun.stderr
            mesh.until(lambda: [each["name"] for each in ca(mesh)["lagging"]] == ["backend-v2"], "one lags")
            mesh.read_ready()
            os.kill(mesh.ready["control_plane_pid"], signal.SIGKILL)
            mesh.until(lambda: mesh.tulle("ca", "status").returncode == 0, "the control plane is back")
            mesh.until(lambda: [each["name"] for each in ca(mesh)["lagging"]] == ["backend-v2"], "it still lags")
            status = ca(mesh)
            assert (status["phase"], len(status["roots"])) == ("trust-both", 2)
            assert status["roots"][0] | {"phase": "signing"} == status["roots"][0]
            assert mesh.tulle("ca", "rotate").returncode == 1, "one rotation at a time"
            load.wait_for(50)
        mesh.until(lambda: ca(mesh)["phase"] == "stable", "everybody has followed", 40)
        load.wait_for(50)
    assert not load.failures
    assert [each["fingerprint"] for each in ca(mesh)["roots"]] != [first]


def test_an_aborted_rotation_leaves_the_root_as_it_was(mesh: Mesh) -> None:
    first = ca(mesh)["roots"][0]["fingerprint"]
    with stopped(mesh.holder("backend-v2")):
        assert mesh.tulle("ca", "rotate").returncode == 0
        assert mesh.tulle("ca", "rotate", "--abort").returncode == 0
    mesh.until(lambda: ca(mesh)["phase"] == "stable", "the rotation has been given up")
    assert [each["fingerprint"] for each in ca(mesh)["roots"]] == [first]
    assert mesh.tulle("ca", "rotate", "--abort").returncode == 1


def answers(mesh: Mesh) -> bool:
    """Whether a request of the client's gets an answer from the backend."""
    connection = Connection(outbound(mesh), AUTHORITY)
    try:
        return connection.get()[0] == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_a_revoked_caller_is_refused_within_two_seconds_and_may_come_back(mesh: Mesh) -> None:
    mesh.until(lambda: answers(mesh), "the client is answered")
    revoked = mesh.tulle("workload", "revoke", "default/client")
    assert revoked.returncode == 0, revoked.stderr
    at = time.monotonic()
    # No connection serves more than five requests: those that are left die out in asking.
    mesh.until(lambda: not any(answers(mesh) for _ in range(10)), "nobody answers the client any more", 2)
    assert time.monotonic() - at < 2
    assert ca(mesh)["revoked"] == ["default/client"]
    connected = {proxy["name"]: proxy["connected"] for proxy in mesh.status()["proxies"]}
    assert connected == {"client": False, "backend-v1": True, "backend-v2": True}
    assert mesh.tulle("workload", "unrevoke", "default/client").returncode == 0
    mesh.until(lambda: answers(mesh), "the client is answered again")
    assert mesh.tulle("workload", "unrevoke", "default/client").returncode == 1
    assert mesh.tulle("workload", "revoke", "default/nobody").returncode == 1


def test_the_audit_log_says_who_did_what_from_where(mesh: Mesh) -> None:
    noted = json.loads(mesh.tulle("audit", "-o", "json").stdout)
    assert {"files-changed", "certificate-issued"} <= {each["event"] for each in noted["events"]}
    assert mesh.tulle("apply", "-f", "-", text=ALL_TO_V1).returncode == 0
    [applied, *_] = json.loads(mesh.tulle("audit", "-o", "json").stdout)["events"]
    assert applied["event"] == "objects-changed"
    assert applied["subject"] == "VirtualService default/backend-route configured"
    assert applied["origin"].startswith("127.0.0.1:")
    assert applied["origin"].endswith(f" uid {os.getuid()}")
    verified = mesh.tulle("audit", "--verify", "--known", noted["head"])
    assert verified.returncode == 0, verified.stderr
    assert "all whole" in verified.stdout
    assert mesh.tulle("audit", "--verify", "--known", "0" * 64).returncode == 1


def test_a_revoked_caller_loses_what_it_is_receiving(mesh: Mesh, data_plane: str) -> None:
    mesh.until(lambda: answers(mesh), "the client is answered")
    connection = Connection(outbound(mesh), AUTHORITY)
    started, outcome = time.monotonic(), []

    def slow() -> None:
        try:
            outcome.append(connection.get(headers={"x-sleep": "9"})[0])
        except OSError as error:
            outcome.append(type(error).__name__)

    waiting = threading.Thread(target=slow)
    waiting.start()
    time.sleep(0.5)  # the request is on its way, and nothing outside tells when it has arrived
    assert mesh.tulle("workload", "revoke", "default/client").returncode == 0
    waiting.join()
    if data_plane == "tulle":
        assert outcome != [200]
        assert time.monotonic() - started < 5.5, "cut within five seconds"
    else:
        assert outcome == [200], "Envoy looks at revocations at handshakes only"


def test_a_revoked_caller_loses_its_tcp_connection(start_mesh: StartMesh, data_plane: str) -> None:
    mesh = start_mesh(TCP, {"upper.py": TCP_ECHO})
    placed = {each["name"]: each["placement"] for each in mesh.status()["workloads"]}
    port = placed["client"]["upstreams"][0]["local_port"]

    def says(lines: Any, word: str) -> str:
        try:
            lines.write(f"{word}\n")
            lines.flush()
            return str(lines.readline())
        except OSError:
            return ""

    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        lines = connection.makefile("rw")
        assert says(lines, "hello") == "HELLO\n"
        assert mesh.tulle("workload", "revoke", "default/client").returncode == 0

        def refused() -> bool:
            with socket.create_connection(("127.0.0.1", port), 10) as another:
                return says(another.makefile("rw"), "new") == ""

        mesh.until(refused, "no new connection is served", 2)
        if data_plane == "tulle":
            mesh.until(lambda: says(lines, "still") == "", "the connection is cut", 5)
        else:
            assert says(lines, "still") == "STILL\n", "Envoy looks at revocations at handshakes only"


ALL_TO_V1 = """
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: backend-route}
spec:
  hosts: [backend]
  http: [{route: [{destination: {host: backend, subset: v1}}]}]
"""
