"""The mesh's trust under load: rotations of the root with a laggard and a killed control plane, and revocation."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from mesh_load import Connection, Load
from mesh_runner import BACKEND, Mesh, stopped

from tulle.identity import trust_state
from tulle.identity.trust_state import Phase

AUTHORITY = "backend:9001"
# Connections between sidecars end after five requests, so that handshakes go on all the time.
CONFIG = BACKEND.replace(
    "  host: backend\n  subsets",
    "  host: backend\n  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 5}}}\n  subsets",
)
ROTATIONS = 10
# In which of them one proxy is stopped, and when.
LAGS = {3: Phase.TRUST_BOTH, 6: Phase.SIGN_WITH_NEW}


def outbound(mesh: Mesh) -> int:
    return int(mesh.workload("client")["outbound"])


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
    return [each["name"] for each in mesh.ca()["lagging"]]


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
                assert (phase(mesh), len(mesh.ca()["roots"])) == (at, 2), "nothing goes on while one lags"
    mesh.until(lambda: phase(mesh) is Phase.STABLE, "everybody has followed", 40)
    return held


def test_ten_rotations_of_the_root_fail_no_request_and_wait_for_a_laggard(mesh: Mesh) -> None:
    mesh.apply(ALL_TO_V1, "--wait", "30")
    seen = {mesh.ca()["roots"][0]["fingerprint"]}
    with Load(outbound(mesh), AUTHORITY, threads=2) as load:
        load.wait_for(50)
        for turn in range(ROTATIONS):
            if turn in LAGS:
                # Who has renewed before it is stopped does not lag; then the next rotation will do.
                assert any(rotated_past_a_laggard(mesh, load, LAGS[turn]) for _ in range(5))
            else:
                done = mesh.tulle("ca", "rotate", "--wait")
                assert done.returncode == 0, done.stderr
            seen.add(mesh.ca()["roots"][0]["fingerprint"])
            load.wait_for(20)
    assert not load.failures
    assert len(seen) == ROTATIONS + 1
    assert len(mesh.ca()["roots"]) == 1


def killed(mesh: Mesh) -> None:
    """Kills the control plane and waits until there is another."""
    os.kill(mesh.status()["control_plane"]["pid"], signal.SIGKILL)
    mesh.until(mesh.is_there, "the control plane is back")


def killed_while_one_lags(mesh: Mesh, load: Load) -> None:
    """Killed in the first phase, with backend-v2 behind: nothing is dropped, and it goes on from there."""
    with stopped(mesh.holder("backend-v2")):
        begun = mesh.tulle("ca", "rotate")
        assert begun.returncode == 0, begun.stderr
        mesh.until(lambda: lagging(mesh) == ["backend-v2"], "one lags")
        killed(mesh)
        mesh.until(lambda: lagging(mesh) == ["backend-v2"], "it still lags")
        status = mesh.ca()
        assert (status["phase"], len(status["roots"])) == ("trust-both", 2)
        assert status["roots"][0]["phase"] == "signing"
        assert mesh.tulle("ca", "rotate").returncode == 1, "one rotation at a time"
        load.wait_for(50)


def killed_when_past(mesh: Mesh, *phases: Phase) -> None:
    pid = mesh.status()["control_plane"]["pid"]
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(mesh.tulle, "ca", "rotate")
        until_phase(mesh, *phases)
        os.kill(pid, signal.SIGKILL)
        begun.result()
    mesh.until(mesh.is_there, "the control plane is back")


def test_a_rotation_goes_on_wherever_the_control_plane_was_killed_and_drops_nothing_while_one_lags(mesh: Mesh) -> None:
    mesh.apply(ALL_TO_V1, "--wait", "30")
    roots = [mesh.ca()["roots"][0]["fingerprint"]]
    with Load(outbound(mesh), AUTHORITY, threads=2) as load:
        load.wait_for(50)
        for step in (
            lambda: killed_while_one_lags(mesh, load),
            lambda: killed_when_past(mesh, Phase.SIGN_WITH_NEW),
            lambda: killed_when_past(mesh, Phase.SIGN_WITH_NEW, Phase.STABLE),
        ):
            step()
            mesh.until(lambda: phase(mesh) is Phase.STABLE, "the rotation has gone on to its end", 40)
            roots += [each["fingerprint"] for each in mesh.ca()["roots"]]
            load.wait_for(30)
    assert not load.failures
    assert len(roots) == len(set(roots)) == 4, "each of them led to one other root"


def test_an_aborted_rotation_leaves_the_root_as_it_was(mesh: Mesh) -> None:
    first = mesh.ca()["roots"][0]["fingerprint"]
    with stopped(mesh.holder("backend-v2")):
        assert mesh.tulle("ca", "rotate").returncode == 0
        assert mesh.tulle("ca", "rotate", "--abort").returncode == 0
    mesh.until(lambda: mesh.ca()["phase"] == "stable", "the rotation has been given up")
    assert [each["fingerprint"] for each in mesh.ca()["roots"]] == [first]
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
    assert mesh.ca()["revoked"] == ["default/client"]
    connected = {proxy["name"]: proxy["connected"] for proxy in mesh.status()["proxies"]}
    assert connected == {"client": False, "backend-v1": True, "backend-v2": True}
    assert mesh.tulle("workload", "unrevoke", "default/client").returncode == 0
    mesh.until(lambda: answers(mesh), "the client is answered again")
    assert mesh.tulle("workload", "unrevoke", "default/client").returncode == 1
    assert mesh.tulle("workload", "revoke", "default/nobody").returncode == 1


def test_the_audit_log_says_who_did_what_from_where(mesh: Mesh) -> None:
    noted = json.loads(mesh.tulle("audit", "-n", "10000", "-o", "json").stdout)
    assert {"files-changed", "certificate-issued"} <= {each["event"] for each in noted["events"]}
    mesh.apply(ALL_TO_V1)
    [applied, *_] = json.loads(mesh.tulle("audit", "-o", "json").stdout)["events"]
    assert applied["event"] == "objects-changed"
    assert applied["subject"] == "VirtualService default/backend-route configured"
    assert applied["origin"].startswith("127.0.0.1:")
    assert applied["origin"].endswith(f" uid {os.getuid()}")
    verified = mesh.tulle("audit", "--verify", "--known", noted["head"])
    assert verified.returncode == 0, verified.stderr
    assert "all whole" in verified.stdout
    assert mesh.tulle("audit", "--verify", "--known", "0" * 64).returncode == 1


ALL_TO_V1 = """
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: backend-route}
spec:
  hosts: [backend]
  http: [{route: [{destination: {host: backend, subset: v1}}]}]
"""
