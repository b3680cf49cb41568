"""The audit log's chain: whole when nobody touched it, and what it says when somebody did."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tulle.sources import store_audit
from tulle.sources.store import Store


def filled(path: Path, count: int = 5) -> None:
    store = Store.open(path)
    for number in range(count):
        store.ledger.audit("objects-applied", f"VirtualService default/v{number}", "created", number, "127.0.0.1:9")
    store.close()


def verified(path: Path, known: str | None = None) -> store_audit.Verified:
    store = Store.open(path)
    try:
        return store.ledger.verify(known)
    finally:
        store.close()


def test_an_untouched_log_is_whole_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    filled(path)
    noted = verified(path).head
    filled(path)
    found = verified(path, noted)
    assert (found.entries, found.fault) == (10, None)
    assert found.head != noted


@pytest.mark.parametrize(
    ("tampering", "fault"),
    [
        ("UPDATE audit SET subject = 'other' WHERE id = 3", "entry 3 was changed"),
        ("UPDATE audit SET at = at + 1 WHERE id = 1", "entry 1 was changed"),
        ("UPDATE audit SET origin = '' WHERE id = 5", "entry 5 was changed"),
        ("DELETE FROM audit WHERE id = 3", "between entries 2 and 4"),
        ("UPDATE audit SET hash = '' WHERE id = 3", "without a seal"),
    ],
)
def test_what_was_tampered_with_is_found(tmp_path: Path, tampering: str, fault: str) -> None:
    path = tmp_path / "store.db"
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute(tampering)
    assert fault in str(verified(path).fault)


def test_a_cut_end_shows_by_a_hash_noted_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    filled(path)
    noted = verified(path).head
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM audit WHERE id = 5")
    assert verified(path).fault is None
    assert "was cut or replaced" in str(verified(path, noted).fault)


def test_old_entries_go_and_the_rest_is_still_a_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_audit, "KEPT_ENTRIES", 3)
    filled(tmp_path / "store.db", 8)
    found = verified(tmp_path / "store.db")
    assert (found.entries, found.fault) == (3, None)
