"""The command line: organized, quick to start, helpful when wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.namespaces import give_up_privilege
from tulle.cli.main import COMMANDS, tulle
from tulle.cli.run import ONLY_THE_SIDECAR, PAST_THE_SIDECAR, announce
from tulle.cli.state import default_state, find_api

HEAVY = ("pydantic", "grpc", "httpx", "yaml", "rich", "cryptography", "google.protobuf", "starlette", "msgspec")

VALID = """apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{port: 80}]}
"""


def run(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tulle.cli", *words]
    return subprocess.run(argv, capture_output=True, text=True, input=text, timeout=60, check=False)


@pytest.mark.parametrize("words", [["--help"], ["apply", "--help"], ["exec", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys\nfrom tulle.cli.main import tulle\n"
        f"try:\n    tulle.main({words!r}, prog_name='tulle')\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stderr.strip() == "[]"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"proxy"}))
def test_every_command_helps_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(tulle, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert f"tulle {name}" in shown.output


def test_help_is_in_sections_and_lists_every_command() -> None:
    shown = CliRunner().invoke(tulle, ["--help"]).output
    for entry in COMMANDS.values():
        assert f"{entry.section}:" in shown
        assert entry.summary in shown


def test_a_mistyped_command_gets_a_suggestion() -> None:
    found = run("aply")
    assert found.returncode == 2
    assert "Did you mean 'apply'?" in found.stderr


def test_no_control_plane_is_status_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("TULLE_API", raising=False)
    nobody = run("status")
    assert nobody.returncode == 3
    assert "tulle up" in nobody.stderr
    assert run("status", "--api", "http://127.0.0.1:1").returncode == 3


def test_the_api_is_found_as_given_then_by_variable_then_by_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("TULLE_API", raising=False)
    assert find_api(None) is None
    default_state().mkdir(parents=True)
    (default_state() / "api.json").write_text(json.dumps({"api": "http://127.0.0.1:3"}))
    assert find_api(None) == "http://127.0.0.1:3"
    monkeypatch.setenv("TULLE_API", "127.0.0.1:2")
    assert find_api(None) == "http://127.0.0.1:2"
    assert find_api("http://127.0.0.1:1/") == "http://127.0.0.1:1"


def test_validate_names_the_place_and_what_would_be_right(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(VALID)
    bad.write_text(VALID.replace("selector", "selectr"))
    fine = run("validate", "-f", str(good))
    assert (fine.returncode, fine.stdout.strip()) == (0, "1 object in 1 file: valid")
    wrong = run("validate", "-f", str(bad))
    assert wrong.returncode == 2
    assert f"{bad}:4:8: error: spec.selectr" in wrong.stderr
    assert "did you mean 'selector'?" in wrong.stderr
    structured = json.loads(run("validate", "-o", "json", "-f", "-", text=bad.read_text()).stdout)
    assert structured["errors"] == 1
    assert structured["diagnostics"][0]["source"] == {"file": "<stdin>", "line": 4, "column": 8}


def test_a_file_that_is_not_there_is_named() -> None:
    assert "no-such.yaml" in run("validate", "-f", "no-such.yaml").stderr
    assert "no-such.yaml" in run("up", "no-such.yaml").stderr


def test_without_privilege_namespaces_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    """Root gives its privilege up first; who has none is refused anyway."""
    argv = [sys.executable, "-m", "tulle.cli", "up", "--net", "ns", "--state", str(tmp_path / "state"), str(tmp_path)]
    refused = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False, preexec_fn=give_up_privilege
    )
    assert refused.returncode == 2
    assert "--net ns needs CAP_SYS_ADMIN" in refused.stderr
    assert "run it as root, or use --net host" in refused.stderr


def test_up_says_that_applications_can_be_dialed_past_their_sidecars(capsys: pytest.CaptureFixture[str]) -> None:
    """Only where there is something to dial."""
    workload = {"namespace": "shop", "name": "web", "outbound": 1, "admin": 2, "ports": []}
    port = {"name": "http", "port": 8080}
    for net, ports, said in (
        ("host", [port], [True, False]), ("host", [], [False, False]), ("ns", [port], [False, True])
    ):
        announce({"api": "http://127.0.0.1:3", "net": net, "workloads": [{**workload, "ports": ports}]})
        told = capsys.readouterr().err
        assert [PAST_THE_SIDECAR in told, ONLY_THE_SIDECAR in told] == said
