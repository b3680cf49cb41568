"""Applied objects, kept in SQLite: changed in transactions, each a revision, with a history of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from tulle.objects import ObjectError, ObjectKey, RawObject
from tulle.sources.store_db import CorruptStoreError, Database, StoreError
from tulle.sources.store_federation import FederationLedger
from tulle.sources.store_leaves import LeafLedger
from tulle.sources.store_ledger import Ledger
from tulle.sources.store_tokens import TokenLedger

KEPT_REVISIONS = 1000
"""How many revisions the history goes back."""


class Action(StrEnum):
    """What happened to an object."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    key: ObjectKey
    action: Action


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of a transaction. The revision is a new one only if something changed."""

    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """A past transaction; `at` is in seconds since 1970."""

    revision: int
    at: float
    changes: tuple[Change, ...]


class ConflictError(StoreError):
    """The store has changed since the caller looked."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"the configuration is at revision {found}, not {expected}: look again and retry")
        self.expected = expected
        self.found = found


class MissingObjectError(StoreError):
    """An object to delete does not exist; nothing was deleted."""

    def __init__(self, missing: Sequence[ObjectKey]) -> None:
        super().__init__("not found: " + ", ".join("/".join(filter(None, key[1:])) for key in missing))
        self.missing = tuple(missing)


class Store:
    """All applied objects, in memory as on disk. Use `open`; belongs to the thread that opened it.

    `ledger` keeps, in the same file, what is not configuration: join tokens, the audit log, placements; `leaves`
    the certificates that are out, and who was revoked; `tokens` those of the admin API, `federation` the trust
    domains that the mesh is federated with.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._objects, self._revision = _load(database)
        self.ledger = Ledger(database)
        self.leaves = LeafLedger(database)
        self.tokens = TokenLedger(database)
        self.federation = FederationLedger(database)

    @classmethod
    def open(cls, path: Path, clock: Callable[[], float] = time.time) -> Store:
        """Opens and loads a store, made when there is none: returns only when every object has been read.

        Raises `StoreInUseError` or `CorruptStoreError`; neither changes the file.
        """
        database = Database.open(path)
        try:
            return cls(database, clock)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        self._database.close()

    @property
    def path(self) -> Path:
        return self._database.path

    @property
    def revision(self) -> int:
        """The number of the last transaction that changed an object; 0 for a new store."""
        return self._revision

    def objects(self) -> tuple[RawObject, ...]:
        """All objects, by key."""
        return tuple(self._objects[key] for key in sorted(self._objects))

    def get(self, key: ObjectKey) -> RawObject | None:
        """One object."""
        return self._objects.get(key)

    def preview(self, objects: Iterable[RawObject]) -> tuple[RawObject, ...]:
        """What `objects()` would be after `apply(objects)`: to check a change before making it."""
        changed = self._objects | {found.key: self._aged(found) for found in objects}
        return tuple(changed[key] for key in sorted(changed))

    def apply(self, objects: Sequence[RawObject], expected_revision: int | None = None) -> Applied:
        """Creates or replaces objects, all or none. The last of several with one key counts.

        Raises `ConflictError` when `expected_revision` is given and is not the present one.
        """
        wanted = {found.key: found for found in objects}
        actions = {key: self._action(found) for key, found in wanted.items()}
        changed = [key for key, action in actions.items() if action is not Action.UNCHANGED]
        updated: dict[ObjectKey, RawObject] = {}
        revision = self._revision
        with self._database.transaction() as connection:
            self._expect(expected_revision)
            if changed:
                revision = self._begin_revision(connection)
            for key, found in wanted.items():
                updated[key] = self._aged(found) if key in self._objects else _numbered(found, connection)
                # Unchanged objects are written too: the lines they are on may have moved.
                _write(connection, updated[key], revision)
            for key in changed:
                _record(connection, revision, Change(key, actions[key]), _encode(updated[key]))
        self._objects.update(updated)
        self._revision = revision
        return Applied(revision, tuple(Change(key, action) for key, action in actions.items()))

    def delete(self, keys: Sequence[ObjectKey], expected_revision: int | None = None) -> Applied:
        """Deletes objects, all or none. Raises `MissingObjectError` or `ConflictError`."""
        unique = list(dict.fromkeys(keys))
        missing = [key for key in unique if key not in self._objects]
        if missing:
            raise MissingObjectError(missing)
        changes = tuple(Change(key, Action.DELETED) for key in unique)
        revision = self._revision
        with self._database.transaction() as connection:
            self._expect(expected_revision)
            if changes:
                revision = self._begin_revision(connection)
            for change in changes:
                connection.execute(
                    "DELETE FROM objects WHERE api_group = ? AND kind = ? AND namespace = ? AND name = ?",
                    change.key,
                )
                _record(connection, revision, change, None)
        for key in unique:
            del self._objects[key]
        self._revision = revision
        return Applied(revision, changes)

    def history(self, limit: int = 20) -> tuple[Revision, ...]:
        """The last revisions, newest first."""
        rows = self._database.read(
            "SELECT revision, at FROM revisions ORDER BY revision DESC LIMIT ?", max(0, limit)
        )
        return tuple(Revision(int(str(r)), float(str(at)), self._changes(r)) for r, at in rows)

    @contextmanager
    def together(self) -> Iterator[None]:
        """All changes in the block, or when it raises none of them."""
        try:
            with self._database.transaction():
                yield
        except BaseException:
            self._objects, self._revision = _load(self._database)
            raise

    def back_up(self, target: Path) -> None:
        """Writes a copy of the store to `target`, while it is in use."""
        self._database.back_up(target)

    def _changes(self, revision: object) -> tuple[Change, ...]:
        rows = self._database.read(
            "SELECT action, api_group, kind, namespace, name FROM changes WHERE revision = ?", revision
        )
        return tuple(Change((str(g), str(k), str(ns), str(n)), Action(str(a))) for a, g, k, ns, n in rows)

    def _expect(self, revision: int | None) -> None:
        if revision is not None and revision != self._revision:
            raise ConflictError(revision, self._revision)

    def _action(self, found: RawObject) -> Action:
        old = self._objects.get(found.key)
        if old is None:
            return Action.CREATED
        return Action.UNCHANGED if old.body == found.body else Action.CONFIGURED

    def _aged(self, found: RawObject) -> RawObject:
        """The object with the age of the one it replaces, unless its document says when it was created."""
        old = self._objects.get(found.key)
        if old is None or _says_when(found):
            return found
        return replace(found, created=old.created)

    def _begin_revision(self, connection: Connection) -> int:
        revision = self._revision + 1
        connection.execute("INSERT INTO revisions VALUES (?, ?)", (revision, self._clock()))
        oldest = revision - KEPT_REVISIONS
        connection.execute("DELETE FROM changes WHERE revision <= ?", (oldest,))
        connection.execute("DELETE FROM revisions WHERE revision <= ?", (oldest,))
        return revision


def _load(database: Database) -> tuple[dict[ObjectKey, RawObject], int]:
    objects: dict[ObjectKey, RawObject] = {}
    for group, kind, namespace, name, document in database.read(
        "SELECT api_group, kind, namespace, name, document FROM objects"
    ):
        key = (str(group), str(kind), str(namespace), str(name))
        try:
            objects[key] = RawObject.decode(json.loads(str(document)))
        except (ValueError, KeyError, TypeError, ObjectError) as error:
            raise CorruptStoreError(database.path, f"{'/'.join(key)} cannot be read ({error!r})") from error
        if objects[key].key != key:
            raise CorruptStoreError(database.path, f"{'/'.join(key)} holds {'/'.join(objects[key].key)}")
    [(revision,)] = database.read("SELECT coalesce(max(revision), 0) FROM revisions")
    return objects, int(str(revision))


def _numbered(found: RawObject, connection: Connection) -> RawObject:
    """A new object with the store's next sequence number as its age, unless its document says when."""
    if _says_when(found):
        return found
    connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'sequence'")
    [(number,)] = connection.execute("SELECT value FROM counters WHERE name = 'sequence'")
    return replace(found, created=number)


def _says_when(found: RawObject) -> bool:
    metadata: Any = found.body["metadata"]
    return metadata.get("creationTimestamp") is not None


def _encode(found: RawObject) -> str:
    return json.dumps(found.encode(), separators=(",", ":"), ensure_ascii=False)


def _write(connection: Connection, found: RawObject, revision: int) -> None:
    connection.execute(
        "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET document = excluded.document, revision = excluded.revision",
        (*found.key, _encode(found), found.created, revision),
    )


def _record(connection: Connection, revision: int, change: Change, document: str | None) -> None:
    values = (revision, change.action.value, *change.key, document)
    connection.execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)", values)
