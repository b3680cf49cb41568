"""Every command of README's walk-through runs, in order, and prints what README says it prints."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTION = "## Five minutes"
START_S = 60.0
COMMAND_S = 60.0
STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Step:
    """A block of commands and the lines that must be in its output, in this order; `…` stands for anything."""

    script: str
    expected: tuple[str, ...]


def steps(readme: str) -> list[Step]:
    """The walk-through's blocks."""
    section = readme.split(SECTION)[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", section, re.MULTILINE | re.DOTALL)
    return [Step(script, tuple(expected.splitlines())) for script, expected in blocks]


def missing(expected: tuple[str, ...], output: str) -> str | None:
    """The first expected line that does not come after the ones before it, or None."""
    position = 0
    for line in expected:
        pattern = ".*".join(re.escape(part.strip()) for part in line.split("…"))
        found = re.compile(rf"^\s*{pattern}\s*$", re.MULTILINE).search(output, position)
        if found is None:
            return line
        position = found.end()
    return None


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The test's own, with a state directory that nobody else uses."""
    kept = {name: value for name, value in os.environ.items() if name != "TULLE_API"}
    return kept | {"XDG_STATE_HOME": str(tmp_path)}


@pytest.fixture
def mesh(environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """What the walk-through's first block runs, until the test ends; it must then end by itself."""
    command = steps((ROOT / "README.md").read_text())[0].script
    output = tmp_path / "up.out"
    with output.open("wb") as out:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=ROOT, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        _wait_until_ready(process, output)
        yield output
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_S) in {0, 130}, output.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_S
    while "The mesh is ready" not in output.read_text():
        assert process.poll() is None, f"it ended:\n{output.read_text()}"
        assert time.monotonic() < deadline, f"it is not ready:\n{output.read_text()}"
        time.sleep(0.1)  # Polls another process; nothing depends on how long it takes.


@pytest.mark.integration
def test_the_walk_through_works(mesh: Path, environment: dict[str, str]) -> None:
    for step in steps((ROOT / "README.md").read_text())[1:]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step.script],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, timeout=COMMAND_S, capture_output=True, text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{step.script}\n{output}\n{mesh.read_text()[-3000:]}"
        lost = missing(step.expected, output)
        assert lost is None, f"{step.script}\nsays nothing like: {lost}\nbut:\n{output}"


def test_the_walk_through_has_commands_and_expectations() -> None:
    found = steps((ROOT / "README.md").read_text())
    assert found[0].script.startswith("bin/tulle up ")
    assert len(found) > 5
    assert all(step.expected for step in found[1:])


@pytest.mark.parametrize(
    ("expected", "output", "lost"),
    [
        (("a", "b"), "a\nb\n", None),
        (("a", "b"), "b\na\n", "b"),
        (("a…c",), "abbc", None),
        (("a…c",), "abb", "a…c"),
        (("…v2…",), '{"version": "v2"}', None),
        (("1.5",), "1x5", "1.5"),
    ],
)
def test_expected_output_is_compared_line_by_line(expected: tuple[str, ...], output: str, lost: str | None) -> None:
    assert missing(expected, output) == lost
