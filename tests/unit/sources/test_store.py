"""The store: transactions, revisions, conflicts, tokens, damage, and death in the middle of a write."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tulle.objects import RawObject
from tulle.sources.store import Action, ConflictError, MissingObjectError, Store
from tulle.sources.store_db import CorruptStoreError, StoreInUseError
from tulle.sources.yaml_reader import read_yaml


def service(name: str, port: int = 80, extra: str = "") -> RawObject:
    text = f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}{extra}}}
spec:
  ports: [{{port: {port}}}]
"""
    (found,), () = read_yaml(text, f"{name}.yaml")
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def test_what_was_applied_is_there_after_a_restart_with_its_lines(path: Path) -> None:
    store = Store.open(path)
    applied = store.apply([service("a"), service("b")])
    assert [change.action for change in applied.changes] == [Action.CREATED, Action.CREATED]
    assert applied.revision == store.revision == 1
    before = store.objects()
    store.close()
    again = Store.open(path)
    assert again.objects() == before
    assert again.revision == 1
    place = again.objects()[0].locate(("spec", "ports", 0, "port"))
    assert (place.file, place.line) == ("a.yaml", 6)
    again.close()


def test_only_what_changed_makes_a_revision(path: Path) -> None:
    store = Store.open(path, clock=lambda: 5.0)
    store.apply([service("a"), service("b")])
    assert store.apply([service("a")]).changes[0].action is Action.UNCHANGED
    assert store.revision == 1
    applied = store.apply([service("a", 81), service("b")])
    assert [change.action for change in applied.changes] == [Action.CONFIGURED, Action.UNCHANGED]
    assert store.delete([service("b").key]).revision == 3
    history = store.history()
    assert [(past.revision, past.at) for past in history] == [(3, 5.0), (2, 5.0), (1, 5.0)]
    assert [change.action for change in history[0].changes] == [Action.DELETED]
    assert [change.key[3] for change in history[1].changes] == ["a"]
    store.close()


def test_age_is_kept_through_changes(path: Path) -> None:
    store = Store.open(path)
    store.apply([service("first"), service("second")])
    store.apply([service("first", 81), service("third")])
    ages = {found.name: found.created for found in store.objects()}
    assert ages["first"] < ages["second"] < ages["third"]
    dated = service("dated", extra=", creationTimestamp: '2020-01-01T00:00:00Z'")
    store.apply([dated])
    assert store.get(dated.key) == dated
    store.close()


def test_a_preview_changes_nothing(path: Path) -> None:
    store = Store.open(path)
    store.apply([service("a")])
    assert [found.name for found in store.preview([service("b")])] == ["a", "b"]
    assert [found.name for found in store.objects()] == ["a"]
    store.close()


def test_a_conflict_changes_nothing(path: Path) -> None:
    store = Store.open(path)
    store.apply([service("a")], expected_revision=0)
    with pytest.raises(ConflictError, match="at revision 1, not 0"):
        store.apply([service("b")], expected_revision=0)
    with pytest.raises(ConflictError):
        store.delete([service("a").key], expected_revision=7)
    assert [found.name for found in store.objects()] == ["a"]
    store.close()


def test_deleting_is_all_or_nothing(path: Path) -> None:
    store = Store.open(path)
    store.apply([service("a")])
    with pytest.raises(MissingObjectError, match="Service/default/b"):
        store.delete([service("a").key, service("b").key])
    assert len(store.objects()) == 1
    store.close()


def test_a_failed_write_leaves_memory_and_disk_alike(path: Path) -> None:
    store = Store.open(path)
    store.apply([service("a")])
    broken = service("b")
    object.__setattr__(broken, "body", {**broken.body, "spec": object()})
    with pytest.raises(TypeError):
        store.apply([service("a", 99), broken])
    before = store.objects()
    store.close()
    again = Store.open(path)
    assert again.objects() == before
    assert again.revision == 1
    again.close()


def test_only_one_process_has_the_store_and_others_cannot_read_it(path: Path) -> None:
    store = Store.open(path)
    with pytest.raises(StoreInUseError, match="another control plane"):
        Store.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.close()
    Store.open(path).close()


def damage_header(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def damage_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)


def damage_object(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE objects SET document = '{}'")
    connection.commit()
    connection.close()


def rename_object(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE objects SET name = 'other'")
    connection.commit()
    connection.close()


def newer_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [damage_header, damage_page, damage_object, rename_object, newer_version],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_store_is_refused_with_the_way_back_and_left_alone(path: Path, damage) -> None:
    store = Store.open(path)
    store.apply([service("a")])
    store.close()
    damage(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(CorruptStoreError, match="Restore it from a backup, or move it away"):
            Store.open(path)
    assert path.read_bytes() == before


def test_a_foreign_database_is_not_taken_over(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(CorruptStoreError, match="not a Tulle store"):
        Store.open(path)


def test_a_backup_is_a_store(path: Path, tmp_path: Path) -> None:
    store = Store.open(path)
    store.apply([service("a")])
    store.back_up(tmp_path / "backup.sqlite")
    store.close()
    copy = Store.open(tmp_path / "backup.sqlite")
    assert [found.name for found in copy.objects()] == ["a"]
    copy.close()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store import service
from tulle.sources.store import Store
store = Store.open(Path(sys.argv[1]))
for port in range(1, 60000):
    print(store.apply([service("a", port), service("b", port)]).revision, flush=True)
"""


def test_killed_in_the_middle_of_writing_nothing_acknowledged_is_lost_or_torn(path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split("\n")
    writer.wait()
    writer.stdout.close()
    acknowledged = max(int(line) for line in [*lines, *rest[:-1]])
    store = Store.open(path)
    assert acknowledged <= store.revision <= acknowledged + 1
    ports = {found.body["spec"]["ports"][0]["port"] for found in store.objects()}
    assert ports == {store.revision}, "both objects are of the same transaction"
    store.close()


def test_a_token_is_used_once(path: Path) -> None:
    store = Store.open(path)
    store.ledger.add_token("digest", "default", "a", expires=100.0)
    assert store.ledger.take_token("other", 1.0) == "the token is unknown"
    assert store.ledger.take_token("digest", 1.0) == ("default", "a")
    assert store.ledger.take_token("digest", 2.0) == "the token was used before"
    store.close()
    again = Store.open(path)
    assert again.ledger.take_token("digest", 3.0) == "the token was used before"
    again.ledger.add_token("late", "default", "a", expires=100.0)
    assert again.ledger.take_token("late", 100.0) == "the token has expired"
    again.close()


def test_audit_and_placements_are_kept(path: Path) -> None:
    store = Store.open(path)
    store.ledger.audit("token-refused", "1.2.3.4", "expired", 1.0)
    store.ledger.audit("token-created", "default/a", "", 2.0)
    store.ledger.place("default", "a", {"admin": 1})
    store.ledger.place("default", "a", {"admin": 2})
    store.ledger.place("default", "b", {"admin": 3})
    store.ledger.unplace("default", "b")
    store.close()
    again = Store.open(path)
    assert [entry.event for entry in again.ledger.audit_log()] == ["token-created", "token-refused"]
    assert again.ledger.placements() == {("default", "a"): {"admin": 2}}
    again.close()
