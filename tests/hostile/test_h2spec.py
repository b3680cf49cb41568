"""h2spec's cases against a sidecar and a gateway: tulle-proxy fails none that real Envoy does not fail too."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest
from attack import gateway
from attack.positions import LISTENERS, Bootstrap, Position, arena, managers

from harness.proxies import DATA_PLANES, REPOSITORY, DataPlane

H2SPEC = REPOSITORY / ".tulle" / "build" / "bin" / "h2spec"
CASES = 100
"""At least so many cases must have run, or the tool did not do its work."""

TIMEOUT_S, AGAIN_S = 2, 8
"""What h2spec waits for an expected frame; a case that fails is asked again, with more time, on a loaded machine."""


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


def _failures(port: int, report: Path, sections: Sequence[str], more: Sequence[str]) -> set[str]:
    """The cases that fail, by section and text."""
    command = [_program(), "-h", "127.0.0.1", "-p", str(port), "-j", str(report), *more, *sections]
    subprocess.run(command, capture_output=True, timeout=200, check=False)
    # Frames are quoted as they came, which may be no XML.
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", report.read_text(errors="replace"))
    cases = ET.fromstring(text).findall(".//testcase")
    assert sections or len(cases) >= CASES, f"only {len(cases)} cases ran"
    return {
        f"{each.get('package')}: {each.get('classname')}"
        for each in cases
        if each.find("failure") is not None
    }


def _run(plane: DataPlane, position: Position, folder: Path) -> set[str]:
    folder.mkdir()
    with arena(position, plane, folder, _serve_everybody) as running:
        name = gateway.SECURE if position == "gateway" else LISTENERS[position]
        tls = ["-t", "-k"] if position == "gateway" else []
        port, report = running.ports[name], folder / "report.xml"
        failed = _failures(port, report, (), ["-o", str(TIMEOUT_S), *tls])
        sections = sorted({each.split(":")[0] for each in failed})
        if failed:
            failed &= _failures(port, report, sections, ["-o", str(AGAIN_S), *tls])
        assert running.alive() is None
    return failed


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("position", ["outbound", "gateway"])
def test_no_case_fails_that_envoy_passes(position: Position, tmp_path: Path) -> None:
    _program()
    failed = {plane.name: _run(plane, position, tmp_path / plane.name) for plane in DATA_PLANES}
    print("failures:", {name: sorted(cases) for name, cases in failed.items()})
    worse = failed["tulle"] - failed["envoy"]
    assert not worse, f"tulle-proxy alone fails: {sorted(worse)}\nEnvoy fails: {sorted(failed['envoy'])}"
