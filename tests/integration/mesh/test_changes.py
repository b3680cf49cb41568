"""Changes of a running mesh: applied, refused, edited in files; under load, and without its control plane."""

from __future__ import annotations

import os
import signal
import statistics
import time

from mesh_load import Connection, Load
from mesh_runner import Mesh, backend, route

AUTHORITY = "backend.default:9001"

WRONG = """apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: backend-route
spec:
  hosts:
  - backend
  http:
  - route:
    - destination:
        host: backend
        subset: v1
      wieght: 100
"""


def outbound(mesh: Mesh) -> int:
    return int(mesh.workload("client")["outbound"])


def control_plane(mesh: Mesh) -> int:
    return int(mesh.status()["control_plane"]["pid"])


def versions(mesh: Mesh, requests: int = 20) -> set[bytes]:
    connection = Connection(outbound(mesh), AUTHORITY)
    found = {connection.get()[1] for _ in range(requests)}
    connection.close()
    return found


def test_new_weights_take_effect_at_once_and_fail_nobody(mesh: Mesh) -> None:
    """The times are printed, not asserted (the target is a median below 100 ms): tests share their machine."""
    took = []
    with Load(outbound(mesh), AUTHORITY) as load:
        load.wait_for(100)
        probe = Connection(outbound(mesh), AUTHORITY)
        for change in range(10):
            wanted = "v2" if change % 2 == 0 else "v1"
            document = route(0, 100) if wanted == "v2" else route(100, 0)
            mesh.apply(document)
            began = time.monotonic()
            while not all(wanted in str(probe.get()[1]) for _ in range(3)):
                assert time.monotonic() - began < 10, f"not all go to {wanted}"
            took.append(time.monotonic() - began)
        load.wait_for(100)
    assert not load.failures
    print(f"apply to effect, seconds: median {statistics.median(took):.3f}, worst {max(took):.3f}")


def test_a_wrong_field_is_refused_with_its_place_and_changes_nothing(mesh: Mesh) -> None:
    before = mesh.status()["control_plane"]["revision"]
    path = mesh.folder / "wrong.yaml"
    path.write_text(WRONG)
    for command in ("validate", "apply"):
        refused = mesh.tulle(command, "-f", str(path))
        assert refused.returncode == 2
        assert f"{path}:13:7: error: spec.http[0].route[0].wieght" in refused.stderr
        assert "weight" in refused.stderr.partition("wieght")[2]
    assert mesh.status()["control_plane"]["revision"] == before
    assert len(versions(mesh, 100)) == 2


def test_a_file_is_followed_and_its_broken_edit_refused(mesh: Mesh) -> None:
    path = mesh.folder / "config" / "mesh.yaml"
    good = path.read_text()
    path.write_text(good.replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 100"))
    mesh.until(lambda: all(b"v2" in body for body in versions(mesh)), "the edit is followed")
    path.write_text(good.replace("weight: 90", "wieght: 90"))
    mesh.until(lambda: any("wieght" in str(found) for found in mesh.status()["diagnostics"]), "the edit is refused")
    assert all(b"v2" in body for body in versions(mesh))
    path.write_text(good)
    mesh.until(lambda: not mesh.status()["diagnostics"], "the correction is accepted")
    mesh.until(lambda: len(versions(mesh, 100)) == 2, "both versions are back")


def test_an_applied_object_outlives_a_restart_until_it_is_deleted(mesh: Mesh) -> None:
    mesh.apply(route(0, 100))
    os.kill(control_plane(mesh), signal.SIGKILL)
    mesh.until(mesh.synced, "the control plane is back")
    assert all(b"v2" in body for body in versions(mesh))
    assert "deleted" in mesh.tulle("delete", "vs", "backend-route").stdout
    mesh.until(lambda: len(versions(mesh, 100)) == 2, "the file's weights hold again")
    declared = mesh.tulle("delete", "vs", "backend-route")
    assert declared.returncode == 1
    assert "mesh.yaml" in declared.stderr


def test_traffic_goes_on_without_a_control_plane_and_a_restart_pushes_nothing(mesh: Mesh) -> None:
    before = {proxy["name"]: proxy["version_acknowledged"] for proxy in mesh.status()["proxies"]}
    pid = control_plane(mesh)
    with Load(outbound(mesh), AUTHORITY) as load:
        load.wait_for(100)
        os.kill(pid, signal.SIGKILL)
        load.wait_for(500)
        mesh.until(mesh.synced, "everybody is connected again")
        load.wait_for(100)
    assert not load.failures
    status = mesh.status()
    assert status["control_plane"]["pid"] != pid
    assert {proxy["name"]: proxy["version_acknowledged"] for proxy in status["proxies"]} == before
    assert [proxy["pushes"] for proxy in status["proxies"]] == [0, 0, 0]


def test_workloads_come_and_go_with_apply_and_delete(mesh: Mesh) -> None:
    third = backend("v3").replace("echo.py", str(mesh.folder / "config" / "echo.py")).removesuffix("---")
    mesh.apply(third)

    def ready() -> bool:
        placed = {each["name"]: each["placement"]["ready"] for each in mesh.status()["workloads"]}
        return placed.get("backend-v3", False) and mesh.synced()

    mesh.until(ready, "the third version is ready")
    with Load(outbound(mesh), AUTHORITY) as load:
        load.wait_for(50)
        assert mesh.tulle("delete", "workload", "backend-v3").returncode == 0
        mesh.until(lambda: "backend-v3" not in str(mesh.status()["workloads"]), "the third version has gone")
        load.wait_for(50)
    assert not load.failures
