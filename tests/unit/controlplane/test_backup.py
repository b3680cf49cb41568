"""Backup and restore: the same mesh comes back, and nothing half of it does."""

from __future__ import annotations

import gzip
import stat
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tulle.controlplane.accepted import Accepted
from tulle.controlplane.backup import BackupError, back_up, restore
from tulle.identity.ca import Authority
from tulle.sources.store import Store
from tulle.sources.store_db import CorruptStoreError

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DOMAIN = "cluster.local"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a rotation under way, and one audit entry."""
    folder = tmp_path / "state"
    Authority.open(folder, DOMAIN, NOW).begin_rotation(None, NOW)
    store = Store.open(folder / "store.db")
    store.ledger.audit("event", "subject", "detail", 1)
    store.close()
    Accepted.load(folder).prepare({}, {}, {}, 0).take()
    return folder


def test_the_same_mesh_comes_back_while_the_store_is_in_use(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "mesh.backup"
    running = Store.open(state / "store.db")
    running.ledger.audit("later", "subject", "detail", 2)
    back_up(state, file)
    running.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    other = tmp_path / "elsewhere" / "state"
    restore(file, other, DOMAIN, NOW)
    before, after = (Authority.open(each, DOMAIN, NOW) for each in (state, other))
    assert after.trust.state == before.trust.state
    assert after.root_pem == before.root_pem
    store = Store.open(other / "store.db")
    assert [each.event for each in store.ledger.audit_log()] == ["later", "event"]
    assert store.ledger.verify().fault is None
    store.close()
    assert Accepted.load(other).revision == Accepted.load(state).revision
    left = {path.name for folder in (tmp_path, other.parent) for path in folder.iterdir()}
    assert left == {"state", "mesh.backup", "elsewhere"}, "nothing is left behind"


def test_a_state_directory_is_never_overwritten(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "mesh.backup")
    with pytest.raises(BackupError, match=r"not empty.*move it away"):
        restore(tmp_path / "mesh.backup", state, DOMAIN, NOW)


GZIP_HEAD = 64
"""Bytes at the start with a name and a time, which no checksum covers and nobody reads."""


def test_a_damaged_backup_is_refused_whole(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "mesh.backup"
    back_up(state, file)
    good = file.read_bytes()
    every = range(GZIP_HEAD, len(good), len(good) // 64)
    flipped = [good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :] for at in (*every, len(good) - 6)]
    content = gzip.decompress(good)
    for bad in (good[: len(good) // 2], good[:-1], b"something else", b"", good + b"more", *flipped):
        with suppress(OSError, EOFError, zlib.error):
            if gzip.decompress(bad) == content:
                continue  # compressed in another way, but the same: among many equal bytes any may be meant
        file.write_bytes(bad)
        with pytest.raises(BackupError):
            restore(file, tmp_path / "new", DOMAIN, NOW)
        assert not (tmp_path / "new").exists()


def test_a_damaged_list_of_accepted_files_is_refused_with_the_way_back(state: Path) -> None:
    (state / "accepted.json").write_text("{")
    with pytest.raises(CorruptStoreError, match=r"accepted\.json cannot be used.*tulle restore"):
        Accepted.load(state)


def test_only_a_state_directory_is_backed_up(tmp_path: Path, state: Path) -> None:
    with pytest.raises(BackupError, match="no control plane's state"):
        back_up(tmp_path, tmp_path / "mesh.backup")
    (state / "store.db").write_bytes(b"no database at all, but long enough to be read as one" * 100)
    with pytest.raises(BackupError, match="damaged"):
        back_up(state, tmp_path / "mesh.backup")
    assert not (tmp_path / "mesh.backup").exists()
