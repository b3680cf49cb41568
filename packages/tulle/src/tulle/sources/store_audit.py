"""The audit log: what happened, to what, from where, each entry sealed with a hash over it and the one before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from sqlite3 import Connection

from tulle.sources.store_db import Database

KEPT_ENTRIES = 100_000
"""How many entries the log goes back; what remains is still a chain."""

_COLUMNS = "id, at, event, subject, detail, origin, previous, hash"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that happened; `at` is in seconds since 1970, `origin` an address or a file, empty for ourselves.

    `hash` seals it: SHA-256 over everything else in it and the hash of the entry before (`previous`). Entries from
    before there were hashes have none.
    """

    number: int
    at: float
    event: str
    subject: str
    detail: str
    origin: str
    previous: str
    hash: str

    def sealed(self) -> str:
        """The hash that it should have."""
        content = [self.number, self.at, self.event, self.subject, self.detail, self.origin, self.previous]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a check: how many entries, the last one's hash, and what is wrong (None: nothing)."""

    entries: int
    head: str
    fault: str | None


class AuditLog:
    """Appends and reads; nothing changes an entry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def audit(self, event: str, subject: str, detail: str, now: float, origin: str = "") -> None:
        """Appends to the audit log."""
        with self._database.transaction() as connection:
            number, previous = _head(connection)
            entry = AuditEntry(number + 1, float(now), event, subject, detail, origin, previous, "")
            connection.execute(
                f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (entry.number, entry.at, event, subject, detail, origin, previous, entry.sealed()),
            )
            connection.execute("DELETE FROM audit WHERE id <= ?", (entry.number - KEPT_ENTRIES,))

    def audit_log(self, limit: int = 100) -> tuple[AuditEntry, ...]:
        """The last entries, newest first."""
        return self._entries("DESC", max(0, limit))

    def verify(self, known: str | None = None) -> Verified:
        """Checks every seal and the chain, and that the hash `known`, noted earlier, is still in it.

        Who can write the file can also seal it anew: only a hash that was noted elsewhere shows that.
        """
        entries = self._entries("ASC", -1)
        fault = _fault([entry for entry in entries if entry.hash], entries)
        if fault is None and known is not None and known not in {entry.hash for entry in entries}:
            fault = f"no entry has the hash {known}: the log was cut or replaced, or goes back no longer"
        return Verified(len(entries), entries[-1].hash if entries else "", fault)

    def _entries(self, order: str, limit: int) -> tuple[AuditEntry, ...]:
        rows = self._database.read(f"SELECT {_COLUMNS} FROM audit ORDER BY id {order} LIMIT ?", limit)  # noqa: S608
        return tuple(
            AuditEntry(int(str(number)), float(str(at)), *(str(each) for each in texts))
            for number, at, *texts in rows
        )


def _head(connection: Connection) -> tuple[int, str]:
    rows = connection.execute("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1").fetchall()
    return (int(rows[0][0]), str(rows[0][1])) if rows else (0, "")


def _fault(sealed: list[AuditEntry], entries: tuple[AuditEntry, ...]) -> str | None:
    for entry in sealed:
        if entry.sealed() != entry.hash:
            return f"entry {entry.number} was changed"
    unsealed = len(entries) - len(sealed)
    if any(not entry.hash for entry in entries[unsealed:]):
        return "an entry without a seal stands among sealed ones"
    for before, after in pairwise(sealed):
        if (after.number, after.previous) != (before.number + 1, before.hash):
            return f"something is missing or was put between entries {before.number} and {after.number}"
    return None
