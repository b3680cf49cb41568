"""Proxies that run for the whole session, one for each position and kind, and the way to the tools beside this file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cases")]

from attack.positions import Arena, Position, arena  # noqa: E402

from harness.proxies import DATA_PLANES, DataPlane  # noqa: E402


@pytest.fixture(scope="session")
def arenas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Position, DataPlane], Arena]]:
    """The arena of a position and kind; each is started once, when it is first asked for."""
    running: dict[tuple[str, str], Arena] = {}
    with contextlib.ExitStack() as stack:

        def get(position: Position, plane: DataPlane) -> Arena:
            key = (position, plane.name)
            if key not in running:
                folder = tmp_path_factory.mktemp(f"{position}-{plane.name}")
                running[key] = stack.enter_context(arena(position, plane, folder))
            return running[key]

        yield get


@pytest.fixture(params=DATA_PLANES, ids=lambda plane: plane.name)
def plane(request: pytest.FixtureRequest) -> DataPlane:
    """Real Envoy, and tulle-proxy."""
    chosen: DataPlane = request.param
    if not chosen.available():
        pytest.skip(f"{chosen.name} is not built; make build")
    return chosen
