"""The tables that say where each row of the catalogues is tested are true: no row is missing, every test is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from attack.positions import POSITIONS
from test_rows import KINDS, MORE

TESTS = Path(__file__).resolve().parents[1]
PROXY = TESTS.parent / "packages" / "tulle-proxy" / "crates"
HOSTILE, CHAOS = TESTS / "hostile", TESTS / "chaos"
ATTACKS, FAULTS = range(1, 64), (*range(1, 14), 24, 28)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: its cells between the first and the last, and the tests that the last one names."""

    cells: tuple[str, ...]
    tests: tuple[str, ...]


def table(folder: Path) -> dict[int, Row]:
    """The table of a suite's README, by row."""
    found: dict[int, Row] = {}
    for line in (folder / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].isdecimal():
            assert int(cells[0]) not in found, f"row {cells[0]} appears twice"
            tests = tuple(re.findall(r"`([\w./-]+\.(?:py|rs)(?:::\w+)?)`", cells[-1]))
            found[int(cells[0])] = Row(tuple(cells[1:-1]), tests)
    return found


@pytest.mark.parametrize(("folder", "rows"), [(HOSTILE, ATTACKS), (CHAOS, FAULTS)])
def test_every_row_is_there(folder: Path, rows: tuple[int, ...]) -> None:
    found = table(folder)
    assert set(rows) <= set(found)
    assert {row for row in rows if not found[row].tests} == set()


def missing(folder: Path, test: str) -> bool:
    """Whether there is no such file, or no such function in it."""
    file, _, function = test.partition("::")
    path = (PROXY if file.endswith(".rs") else folder) / file
    if not path.exists():
        return True
    kept = re.search(rf"^\s*(?:async )?(?:def|fn) {function}\b", path.read_text(), re.MULTILINE)
    return bool(function) and kept is None


@pytest.mark.parametrize("folder", [HOSTILE, CHAOS])
def test_every_test_is_there(folder: Path) -> None:
    named = [(row, test) for row, found in table(folder).items() for test in found.tests]
    assert [(row, test) for row, test in named if missing(folder, test)] == []


def test_rows_that_are_data_are_where_the_table_says() -> None:
    """Positions and protocols of the rows of `test_rows.py`; a row may have tests of its own besides."""
    wrong = []
    for row, found in table(HOSTILE).items():
        protocols, places = found.cells
        for name, protocol, kind in (("1", "h1", "test_http_1"), ("2", "h2", "test_http_2")):
            attacks = [each for each in (*KINDS[protocol], *MORE[protocol]) if each.row == row]
            named = f"test_rows.py::{kind}" in found.tests
            at = {position for each in attacks for position in each.positions}
            said = {position for position in POSITIONS if position[0] in places.split()}
            if named != bool(attacks) or (named and (name not in protocols.split() or at != said)):
                wrong.append(f"row {row} over {protocol}: {sorted(at)} against {sorted(said)}")
    assert wrong == []
