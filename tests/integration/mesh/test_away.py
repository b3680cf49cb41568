"""The control plane is away for half of the certificates' life: no request fails, and everything recovers by itself."""

from __future__ import annotations

import json
import time
from typing import Any

from mesh_away import AUTHORITY, COLD, CONFIG, is_back, outbound, restart, said, status, until_kept
from mesh_load import Load
from mesh_runner import Mesh, StartMesh, stopped

LIFE = 50


def ca(mesh: Mesh) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mesh.tulle("ca", "status", "-o", "json").stdout)
    return found


def test_half_of_the_certificates_life_without_control_plane_fails_no_request(
    start_mesh: StartMesh, data_plane: str
) -> None:
    mesh = start_mesh(CONFIG, options=["--leaf-life", str(LIFE)])
    if data_plane == "tulle":
        until_kept(mesh)
    with Load(outbound(mesh), AUTHORITY, threads=2) as load:
        # Everybody gets a fresh certificate.
        rotated = mesh.tulle("ca", "rotate", "--wait")
        assert rotated.returncode == 0, rotated.stderr
        before = ca(mesh)["forecast"]["expires"]
        with stopped(mesh.status()["control_plane"]["pid"]):
            back = time.monotonic() + LIFE / 2
            assert status(mesh, COLD) == 200, "a destination that was never called before"
            if data_plane == "tulle":  # stock Envoy keeps no configuration
                restart(mesh, "backend-v1")
                assert "the one kept on disk is in force" in said(mesh, "backend-v1")
                served = load.answers["v1"]
                mesh.until(lambda: load.answers["v1"] > served + 10, "the restarted proxy serves")
            while time.monotonic() < back:
                load.wait_for(10)
        mesh.until(lambda: ca(mesh)["forecast"]["expires"] > before, "every certificate has been renewed", LIFE)
        mesh.until(lambda: is_back(mesh), "everybody is connected", 60)
        load.wait_for(50)
    assert not load.failures
