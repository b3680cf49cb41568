"""Every case file behaves the same on real Envoy and on tulle-proxy, except for what divergences.toml accepts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from differ import case, compare, divergences, run
from differ.pki import Pki

HERE = Path(__file__).parent
CASES = sorted((HERE / "cases").glob("*/*.yaml"))


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.integration
@pytest.mark.parametrize("path", CASES, ids=_name)
async def test_same_as_envoy(path: Path, certificates: Pki, tmp_path: Path) -> None:
    loaded = case.load(path)
    envoy, tulle = await asyncio.gather(
        run.run(loaded, "envoy", certificates, tmp_path), run.run(loaded, "tulle", certificates, tmp_path)
    )
    found = [
        each
        for call in loaded.calls
        for each in compare.differences(call, envoy[call.name], tulle[call.name])
    ]
    accepted = [entry for entry in divergences.load(HERE / "divergences.toml") if entry.case == _name(path)]
    unexplained, unused = divergences.judge(found, accepted)
    lines = [
        f"{each.call}: {each.fact}\n    envoy: {each.envoy}\n    tulle: {each.tulle}" for each in unexplained
    ]
    lines += [f"divergences.toml accepts what is not so: {entry.call}: {entry.fact}" for entry in unused]
    assert not lines, "\n" + "\n".join(lines)


def test_every_accepted_divergence_is_of_a_case() -> None:
    names = {_name(path) for path in CASES}
    assert {entry.case for entry in divergences.load(HERE / "divergences.toml")} <= names
