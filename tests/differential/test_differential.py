"""Every case file behaves the same on real Envoy and on tulle-proxy, except for what divergences.toml accepts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from differ import case, compare, divergences, run
from differ.pki import Pki
from differ.proxies import Kind

HERE = Path(__file__).parent
CASES = sorted((HERE / "cases").glob("*/*.yaml"))


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _combinations() -> list[pytest.param]:
    """Each case with what takes Envoy's place: tulle-proxy alone, or in a pair at either side and at both."""
    pairs: list[tuple[Kind, Kind]] = [("tulle", "tulle"), ("tulle", "envoy"), ("envoy", "tulle")]
    found = []
    for path in CASES:
        kinds: list[tuple[Kind, ...]] = [*pairs] if case.load(path).pair else [("tulle",)]
        found += [pytest.param(path, each, id=f"{_name(path)}-{'-'.join(each)}") for each in kinds]
    return found


@pytest.mark.integration
@pytest.mark.parametrize(("path", "kinds"), _combinations())
async def test_same_as_envoy(path: Path, kinds: tuple[Kind, ...], certificates: Pki, tmp_path: Path) -> None:
    loaded = case.load(path)
    folders = {name: tmp_path / name for name in ("expected", "got")}
    for folder in folders.values():
        folder.mkdir()
    expected, got = await asyncio.gather(
        run.run(loaded, ["envoy"] * len(kinds), certificates, folders["expected"]),
        run.run(loaded, kinds, certificates, folders["got"]),
    )
    found = [
        each
        for call in loaded.calls
        for each in compare.differences(call, expected[call.name], got[call.name])
    ]
    accepted = [
        entry for entry in divergences.load(HERE / "divergences.toml") if entry.concerns(_name(path), kinds)
    ]
    unexplained, unused = divergences.judge(found, accepted)
    lines = [
        f"{each.call}: {each.fact}\n    envoy: {each.envoy}\n    tulle: {each.tulle}" for each in unexplained
    ]
    lines += [f"divergences.toml accepts what is not so: {entry.call}: {entry.fact}" for entry in unused]
    assert not lines, "\n" + "\n".join(lines)


def test_every_accepted_divergence_is_of_a_case() -> None:
    names = {_name(path) for path in CASES}
    assert {entry.case for entry in divergences.load(HERE / "divergences.toml")} <= names
