"""The control plane is away for half of the certificates' life: no request fails, and everything recovers by itself.

Row 2 of the catalogue of faults is part of it: who stops without a word is noticed.
"""

from __future__ import annotations

import time

from mesh_away import AUTHORITY, COLD, EJECTING, KEPT, outbound, restart, said, status, until_kept
from mesh_load import Load
from mesh_runner import Mesh, OnBothPlanes, stopped

LIFE = 36


def test_half_of_the_certificates_life_without_control_plane_fails_no_request(on_both_planes: OnBothPlanes) -> None:
    on_both_planes(_half_a_life_without_control_plane, EJECTING, ["--leaf-life", str(LIFE)])


def _half_a_life_without_control_plane(mesh: Mesh, data_plane: str) -> None:
    with Load(outbound(mesh), AUTHORITY, threads=2) as load:
        # Everybody gets a fresh certificate.
        rotated = mesh.tulle("ca", "rotate", "--wait")
        assert rotated.returncode == 0, rotated.stderr
        before = mesh.ca()["forecast"]["expires"]
        heard = Heard(mesh)
        with stopped(mesh.status()["control_plane"]["pid"]):
            back = time.monotonic() + LIFE / 2
            assert status(mesh, COLD) == 200, "a destination that was never called before"
            if data_plane == "tulle":  # stock Envoy keeps no configuration, and what it notices is Envoy's
                _restarted(mesh, load)
                mesh.until(lambda: heard.since("Warn: control plane: "), "everybody notices that nobody answers", LIFE)
            while time.monotonic() < back:
                load.wait_for(10)
        if data_plane == "tulle":
            mesh.until(lambda: heard.since("control plane: connected"), "everybody has connected again", LIFE)
        mesh.until(lambda: mesh.ca()["forecast"]["expires"] > before, "every certificate has been renewed", LIFE)
        mesh.until(mesh.synced, "everybody has all there is", 60)
        load.wait_for(50)
    assert not load.failures


def _restarted(mesh: Mesh, load: Load) -> None:
    """A proxy that is started again meanwhile serves by what it has kept."""
    until_kept(mesh)
    restart(mesh, "backend-v1")
    mesh.until(lambda: KEPT in said(mesh, "backend-v1"), "it says why it serves")
    served = load.answers["v1"]
    mesh.until(lambda: load.answers["v1"] > served + 10, "the restarted proxy serves")


class Heard:
    """What the proxies have said until now. That their pings' times add up to less than 15 s is checked where they
    are set (control/channel.rs).
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._before = {name: said(mesh, name) for name in ("client", "backend-v1", "backend-v2")}

    def since(self, text: str) -> bool:
        """Whether each of them has said that since then."""
        return all(said(self._mesh, name).count(text) > old.count(text) for name, old in self._before.items())
