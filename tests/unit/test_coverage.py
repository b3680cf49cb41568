"""Every test that docs/zero-trust-coverage.md names exists, so that the table cannot rot."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "zero-trust-coverage.md"
PLACES = (ROOT / "tests", ROOT / "packages" / "tulle-proxy" / "crates")
_ROW = re.compile(r"^\| (?!what)[^|]+ \| (?P<shown>[^|]+) \|$", re.MULTILINE)


def _is_there(named: str) -> bool:
    path, _, test = named.partition("::")
    found = [place / path for place in PLACES if (place / path).exists()]
    if not found or not test:
        return bool(found)
    defined = re.compile(rf"\b(def|fn|class) {re.escape(test)}\b|^{re.escape(test)} = ", re.MULTILINE)
    return any(defined.search(each.read_text()) for each in found)


def test_every_test_that_is_named_exists() -> None:
    rows = [match["shown"] for match in _ROW.finditer(DOCUMENT.read_text())]
    assert len(rows) > 40
    named = [re.findall("`([^`]+)`", row) for row in rows]
    assert all(named), "a row without a test shows nothing"
    assert [each for row in named for each in row if not _is_there(each)] == []


def test_what_is_not_there_is_noticed() -> None:
    assert not _is_there("unit/identity/test_ca.py::test_of_nothing")
    assert not _is_there("unit/identity/test_nothing.py")
