"""Which certificates count as in use, and revocation with and without a way back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.sources.store import Store
from tulle.sources.store_leaves import Leaf, LeafLedger


@pytest.fixture
def leaves(tmp_path: Path) -> Iterator[LeafLedger]:
    store = Store.open(tmp_path / "store.db")
    yield store.leaves
    store.close()


def leaf(serial: str, lineage: str, issued: float, workload: str = "a", root: str = "old") -> Leaf:
    return Leaf(serial, lineage, "default", workload, root, issued, issued + 100)


def serials(leaves: LeafLedger, now: float) -> list[str]:
    return [each.serial for each in leaves.in_use(now)]


def test_a_renewal_counts_beside_its_predecessor_until_it_is_used(leaves: LeafLedger) -> None:
    for each in (leaf("1", "1", 0), leaf("2", "1", 10), leaf("3", "1", 20), leaf("9", "9", 5)):
        leaves.add(each, each.issued)
    assert serials(leaves, 30) == ["1", "9", "2", "3"], "an answer may have been lost: any may be in use"
    leaves.confirm("3")
    assert serials(leaves, 30) == ["9", "3"]
    leaves.confirm("1")
    assert serials(leaves, 30) == ["9", "3"], "an old certificate does not make a newer one unused"
    leaves.confirm("unknown")
    assert serials(leaves, 106) == ["3"]
    leaves.add(leaf("4", "3", 121), 121)
    assert leaves.get("3") is None, "what expired is forgotten"


def test_a_revocation_takes_all_that_the_workload_has_and_can_be_taken_back(leaves: LeafLedger) -> None:
    for each in (leaf("1", "1", 0), leaf("2", "1", 10, root="new"), leaf("3", "3", 10, "b")):
        leaves.add(each, each.issued)
    leaves.confirm("2")
    assert leaves.revoke("default", "a", 20)
    assert not leaves.revoke("default", "a", 21)
    assert leaves.revoked() == {("default", "a"): 20}
    assert leaves.revoked_serials(20) == {"old": ["1"], "new": ["2"]}, "superseded ones too: somebody may have kept one"
    assert leaves.revoked_serials(105) == {"new": ["2"]}
    assert serials(leaves, 20) == ["3"]
    assert leaves.revocation_number() == 1
    assert leaves.unrevoke("default", "a")
    assert not leaves.unrevoke("default", "a")
    assert (leaves.revoked(), leaves.revoked_serials(20), leaves.revocation_number()) == ({}, {}, 2)
    assert serials(leaves, 20) == ["2", "3"]


def test_a_store_of_the_first_version_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = Store.open(path)
    store.ledger.audit("event", "subject", "detail", 1)
    store.close()
    with sqlite3.connect(path) as old:
        old.executescript(
            "DROP TABLE leaves; DROP TABLE revocations; DROP TABLE revoked_serials; DROP TABLE api_tokens;"
            " DROP TABLE federation;"
            " DELETE FROM counters WHERE name = 'revocations'; PRAGMA user_version = 1;"
            " ALTER TABLE audit DROP COLUMN origin; ALTER TABLE audit DROP COLUMN previous;"
            " ALTER TABLE audit DROP COLUMN hash;"
        )
    again = Store.open(path)
    assert again.leaves.in_use(0) == []
    assert again.tokens.all() == []
    again.ledger.audit("later", "subject", "detail", 2)
    assert [entry.event for entry in again.ledger.audit_log()] == ["later", "event"]
    assert again.ledger.verify().fault is None
    again.close()
