"""Starts real meshes for the tests here: `tulle up` with its control plane, sidecars and echo servers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mesh_runner import BACKEND, Mesh, OnBothPlanes, StartMesh

from tulle.supervisor.programs import tulle_proxy

PLANES = ("tulle", "envoy")


@pytest.fixture(scope="module", params=PLANES)
def data_plane(request: pytest.FixtureRequest) -> str:
    """Every test runs on both data planes."""
    name: str = request.param
    if name == "tulle" and tulle_proxy() is None:
        pytest.fail("tulle-proxy is not built: run 'make build'")
    return name


@pytest.fixture
def start_mesh(tmp_path: Path, data_plane: str) -> Iterator[StartMesh]:
    """Starts meshes (by default two echo versions and a client), and ends what the test leaves running."""
    meshes: list[Mesh] = []

    def start(
        config: str = BACKEND, programs: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> Mesh:
        mesh = Mesh.start(tmp_path / f"mesh{len(meshes)}", config, data_plane, programs, options)
        meshes.append(mesh)
        mesh.wait_ready()
        return mesh

    yield start
    for mesh in meshes:
        mesh.kill()


@pytest.fixture
def on_both_planes(tmp_path: Path) -> OnBothPlanes:
    """Runs a scenario that mostly waits on both data planes at once, each with a mesh of its own."""

    def run(scenario: Callable[[Mesh, str], None], config: str, options: Sequence[str]) -> None:
        def on(plane: str) -> None:
            with Mesh.running(tmp_path / plane, config, plane, options=options) as mesh:
                scenario(mesh, plane)

        with ThreadPoolExecutor() as pool:
            running = {plane: pool.submit(on, plane) for plane in PLANES}
        for plane, each in running.items():
            error = each.exception()
            if error is not None:
                raise AssertionError(f"on {plane}") from error

    return run


@pytest.fixture(scope="module")
def standing_mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data_plane: str
) -> Iterator[Mesh]:
    """One mesh for all tests of a module, of the module's `CONFIG` and `PROGRAMS` where it has them."""
    config, programs = (getattr(request.module, name, None) for name in ("CONFIG", "PROGRAMS"))
    with Mesh.running(tmp_path_factory.mktemp("standing") / "mesh", config or BACKEND, data_plane, programs) as mesh:
        yield mesh


@pytest.fixture
def mesh(standing_mesh: Mesh) -> Iterator[Mesh]:
    """The module's mesh (by default two echo versions behind a canary, and a client), left as it was."""
    standing_mesh.until(standing_mesh.synced, "everybody is connected")
    standing_mesh.read_ready()
    yield standing_mesh
    standing_mesh.restore()
