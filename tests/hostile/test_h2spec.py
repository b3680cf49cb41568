"""h2spec's cases against a sidecar and a gateway: tulle-proxy fails none that real Envoy does not fail too."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from attack import gateway
from attack.positions import LISTENERS, Bootstrap, Position, arena, managers

from harness.proxies import DATA_PLANES, REPOSITORY, DataPlane

H2SPEC = REPOSITORY / ".tulle" / "build" / "bin" / "h2spec"
CASES = 100
"""At least so many cases must have run, or the tool did not do its work."""

TIMEOUT_S, AGAIN_S = 1, 8
"""What h2spec waits for an expected frame; a case that fails is asked again, with more time, on a loaded machine."""

PARTS = (("generic", "hpack"), ("http2/3", "http2/4"), ("http2/5",), ("http2/6",), ("http2/7", "http2/8"))
"""Sections of the specification that are asked at the same time: what takes long is waiting for silence."""


def _program() -> str:
    found = str(H2SPEC) if H2SPEC.exists() else shutil.which("h2spec")
    if found is None:
        pytest.skip("h2spec is not built: `make test` builds it where Go is installed")
    return found


def _serve_everybody(bootstrap: Bootstrap) -> None:
    """h2spec asks for the address it connects to, by TLS without a server name."""
    for listener in bootstrap["static_resources"]["listeners"]:
        if listener["name"] == gateway.SECURE:
            listener["filter_chains"] = listener["filter_chains"][:1]
            del listener["filter_chains"][0]["filter_chain_match"]
    for manager in managers(bootstrap):
        hosts = manager["route_config"]["virtual_hosts"]
        wanted = next((host for host in hosts if "backend-service:80" in host["name"]), hosts[0])
        wanted["domains"] = ["*"]
        manager["route_config"]["virtual_hosts"] = [wanted]


@dataclass(frozen=True, slots=True)
class Report:
    """How many cases ran, and which failed, by section and text."""

    cases: int
    failed: frozenset[str]


def _asked(port: int, file: Path, sections: Sequence[str], more: Sequence[str]) -> Report:
    command = [_program(), "-h", "127.0.0.1", "-p", str(port), "-j", str(file), *more, *sections]
    subprocess.run(command, capture_output=True, timeout=200, check=False)
    # Frames are quoted as they came, which may be no XML.
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", file.read_text(errors="replace"))
    cases = ET.fromstring(text).findall(".//testcase")
    failed = [each for each in cases if each.find("failure") is not None]
    return Report(len(cases), frozenset(f"{each.get('package')}: {each.get('classname')}" for each in failed))


def _run(plane: DataPlane, position: Position, folder: Path, parts: Sequence[Sequence[str]]) -> Report:
    """What comes of some sections, each part on its own connections; what fails is asked again."""
    folder.mkdir()
    with arena(position, plane, folder, _serve_everybody) as running, ThreadPoolExecutor() as threads:
        name = gateway.SECURE if position == "gateway" else LISTENERS[position]
        tls = ["-t", "-k"] if position == "gateway" else []

        def ask(parts: Sequence[Sequence[str]], patience: int) -> Report:
            more = ["-o", str(patience), *tls]
            futures = [
                threads.submit(_asked, running.ports[name], folder / f"{patience}-{number}.xml", part, more)
                for number, part in enumerate(parts)
            ]
            found = [future.result() for future in futures]
            return Report(
                sum(each.cases for each in found), frozenset().union(*(each.failed for each in found))
            )

        first = ask(parts, TIMEOUT_S)
        again = ask([[section] for section in _sections(first.failed)], AGAIN_S)
        assert running.alive() is None
    return Report(first.cases, first.failed & again.failed)


def _sections(failed: Iterable[str]) -> list[str]:
    return sorted({each.split(":")[0] for each in failed})


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("position", ["outbound", "gateway"])
def test_no_case_fails_that_envoy_passes(position: Position, tmp_path: Path) -> None:
    """Envoy is asked for what tulle-proxy fails, if that is anything."""
    envoy, tulle = DATA_PLANES
    ours = _run(tulle, position, tmp_path / "tulle", PARTS)
    assert ours.cases >= CASES, f"only {ours.cases} cases ran"
    if not ours.failed:
        return
    theirs = _run(envoy, position, tmp_path / "envoy", [[section] for section in _sections(ours.failed)])
    worse = ours.failed - theirs.failed
    assert not worse, f"tulle-proxy alone fails: {sorted(worse)}\nEnvoy fails: {sorted(theirs.failed)}"
