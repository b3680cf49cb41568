"""Opens the SQLite file behind the store: one owner at a time, checked for damage, durable, migrated."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

APPLICATION_ID = 0x74756C6C
"""Marks the file as ours ("tull" in ASCII), so that no other database is taken for a store."""

SCHEMA_VERSION = 5

_SCHEMA = """
CREATE TABLE objects (
    api_group TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    document TEXT NOT NULL, sequence INTEGER NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (api_group, kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE revisions (revision INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE changes (
    revision INTEGER NOT NULL REFERENCES revisions, action TEXT NOT NULL,
    api_group TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    document TEXT,
    PRIMARY KEY (revision, api_group, kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('sequence', 0);
CREATE TABLE tokens (
    digest TEXT PRIMARY KEY, namespace TEXT NOT NULL, workload TEXT NOT NULL,
    expires REAL NOT NULL, used REAL
) WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE TABLE placements (
    namespace TEXT NOT NULL, workload TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (namespace, workload)
) WITHOUT ROWID;
"""


_TO_VERSION_2 = """
CREATE TABLE leaves (
    serial TEXT PRIMARY KEY, lineage TEXT NOT NULL, namespace TEXT NOT NULL, workload TEXT NOT NULL,
    root TEXT NOT NULL, issued REAL NOT NULL, expires REAL NOT NULL, superseded INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE revocations (
    namespace TEXT NOT NULL, workload TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (namespace, workload)
) WITHOUT ROWID;
CREATE TABLE revoked_serials (
    serial TEXT PRIMARY KEY, namespace TEXT NOT NULL, workload TEXT NOT NULL, root TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
INSERT INTO counters VALUES ('revocations', 0);
"""

_TO_VERSION_3 = """
ALTER TABLE audit ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN previous TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN hash TEXT NOT NULL DEFAULT '';
"""

_TO_VERSION_4 = """
CREATE TABLE api_tokens (
    digest TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, role TEXT NOT NULL,
    namespaces TEXT NOT NULL, created REAL NOT NULL, expires REAL
) WITHOUT ROWID;
"""

_TO_VERSION_5 = """
CREATE TABLE federation (
    domain TEXT PRIMARY KEY, roots TEXT NOT NULL, url TEXT NOT NULL, updated REAL NOT NULL
) WITHOUT ROWID;
"""

_UPGRADES = {
    1: _TO_VERSION_2 + _TO_VERSION_3 + _TO_VERSION_4 + _TO_VERSION_5,
    2: _TO_VERSION_3 + _TO_VERSION_4 + _TO_VERSION_5,
    3: _TO_VERSION_4 + _TO_VERSION_5,
    4: _TO_VERSION_5,
}
"""What leads from each older version to the present one."""


class StoreError(Exception):
    """The store cannot do what was asked. The message says what to do."""


class StoreInUseError(StoreError):
    """Another process has the store open."""


class CorruptStoreError(StoreError):
    """The file is damaged or not a store. It is left as it is."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} cannot be used: {reason}. Restore it from a backup, or move it away and apply your"
            " configuration again (the mesh's identity is not in it and stays). Proxies keep what they have."
            " ('tulle restore' brings a backup back where no state directory is in the way.)"
        )


class UnwritableError(StoreError):
    """The disk took nothing; the store is as it was before."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"nothing was changed: {path} cannot be written ({reason}); make room on the disk, try again")


class OlderStoreError(StoreError):
    """The store is older than what was in force last: changes that were made since are missing in it."""

    def __init__(self, path: Path, found: int, noted: int) -> None:
        super().__init__(
            f"{path} is at revision {found}, but revision {noted} was in force: changes would be undone silently."
            " Restore the newer store, or start once with --accept-older-store to go on with this one"
        )


class Database:
    """One open file. Everything happens in the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._inside = False

    @classmethod
    def open(cls, path: Path) -> Database:
        """Opens the file, made when there is none. Raises `StoreInUseError` or `CorruptStoreError`."""
        lock = _lock(path)
        try:
            connection = _connect(path)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, connection, lock)

    def close(self) -> None:
        self._connection.close()
        os.close(self._lock)

    def read(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """The rows of a query."""
        return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or, when it raises, nothing. On disk when it ends without an exception.

        Inside another transaction it is a part of that one. Raises `UnwritableError` when the disk does not take it.
        """
        if self._inside:
            yield self._connection
            return
        self._inside = True
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException as error:
            # A full disk may have ended it already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise UnwritableError(self.path, str(error)) from error
            raise
        finally:
            self._inside = False

    def back_up(self, target: Path) -> None:
        """Writes a copy of the present state, complete in itself, to `target`."""
        copy = sqlite3.connect(target)
        try:
            self._connection.backup(copy)
        finally:
            copy.close()


def _lock(path: Path) -> int:
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreInUseError(f"{path} is in use by another control plane: stop it first") from None
    return descriptor


def _connect(path: Path) -> sqlite3.Connection:
    # Made here, and not by SQLite, so that nobody else can read it from the first moment.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _check(path, connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise CorruptStoreError(path, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    """Makes the tables in an empty file, or checks that this is an undamaged store of a version we know."""
    [(application,)] = connection.execute("PRAGMA application_id")
    [(version,)] = connection.execute("PRAGMA user_version")
    [(tables,)] = connection.execute("SELECT count(*) FROM sqlite_schema")
    if application == 0 and tables == 0:
        pragmas = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        connection.executescript(f"BEGIN; {_SCHEMA} {_UPGRADES[1]} {pragmas} COMMIT;")
        return
    if application != APPLICATION_ID:
        raise CorruptStoreError(path, "it is not a Tulle store")
    if version not in (*_UPGRADES, SCHEMA_VERSION):
        raise CorruptStoreError(path, f"it has version {version}, and this program knows {SCHEMA_VERSION}")
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    if problems != ["ok"]:
        raise CorruptStoreError(path, "; ".join(problems))
    if version in _UPGRADES:
        connection.executescript(f"BEGIN; {_UPGRADES[version]} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
