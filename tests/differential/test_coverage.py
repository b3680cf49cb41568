"""COVERAGE.md names cases and tests that exist, and leaves out no case."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMED = re.findall(r"`([\w./-]+/[\w./-]+)`", (HERE / "COVERAGE.md").read_text())
CASES = {f"{path.parent.name}/{path.stem}" for path in (HERE / "cases").glob("*/*.yaml")}


def test_everything_named_exists() -> None:
    missing = {name for name in NAMED if name not in CASES and not (ROOT / name).exists()}
    assert not missing


def test_every_case_is_named() -> None:
    assert not CASES - set(NAMED)
