"""Starts real meshes for the tests here: `tulle up` with its control plane, sidecars and echo servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mesh_runner import BACKEND, Mesh, StartMesh

from tulle.supervisor.programs import tulle_proxy


@pytest.fixture(params=["tulle", "envoy"])
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
def mesh(start_mesh: StartMesh) -> Mesh:
    """Two echo versions behind a canary, and a client."""
    return start_mesh()
