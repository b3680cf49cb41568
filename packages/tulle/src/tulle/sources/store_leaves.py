"""Which certificates are out and in use, and which workloads and certificates were revoked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from sqlite3 import Connection

from tulle.sources.store_db import Database


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate that was issued. Serial and root (a fingerprint) in hexadecimal, times in seconds since 1970.

    `lineage` is the serial of the first certificate of its holder, who got this one by renewals from there on.
    """

    serial: str
    lineage: str
    namespace: str
    workload: str
    root: str
    issued: float
    expires: float


class LeafLedger:
    """Certificates and revocations, durably."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, leaf: Leaf, now: float) -> None:
        """Keeps a certificate; those that have expired are forgotten."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM leaves WHERE expires < ?", (now,))
            connection.execute(
                "INSERT INTO leaves VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                (leaf.serial, leaf.lineage, leaf.namespace, leaf.workload, leaf.root, leaf.issued, leaf.expires),
            )

    def get(self, serial: str) -> Leaf | None:
        """One certificate, superseded or not."""
        found = self._leaves("serial = ?", serial)
        return found[0] if found else None

    def confirm(self, serial: str) -> bool:
        """Its holder uses this certificate: what the same holder was given before is in use no more.

        False when it is not known here.
        """
        leaf = self.get(serial)
        if leaf is None:
            return False
        older = self._leaves(
            "lineage = ? AND issued <= ? AND serial <> ? AND superseded = 0", leaf.lineage, leaf.issued, serial
        )
        if older:
            with self._database.transaction() as connection:
                for each in older:
                    connection.execute("UPDATE leaves SET superseded = 1 WHERE serial = ?", (each.serial,))
        return True

    def in_use(self, now: float) -> list[Leaf]:
        """All certificates that somebody may be using: neither expired, nor superseded, nor revoked."""
        return self._leaves(
            "expires > ? AND superseded = 0 AND serial NOT IN (SELECT serial FROM revoked_serials) ORDER BY expires",
            now,
        )

    def revoke(self, namespace: str, workload: str, now: float) -> bool:
        """Revokes a workload with every certificate that it has; False when it was revoked before."""
        if (namespace, workload) in self.revoked():
            return False
        with self._database.transaction() as connection:
            connection.execute("INSERT INTO revocations VALUES (?, ?, ?)", (namespace, workload, now))
            connection.execute(
                "INSERT OR IGNORE INTO revoked_serials SELECT serial, namespace, workload, root, expires FROM leaves"
                " WHERE namespace = ? AND workload = ? AND expires > ?",
                (namespace, workload, now),
            )
            _count(connection)
        return True

    def unrevoke(self, namespace: str, workload: str) -> bool:
        """Takes a revocation back, for the certificates too; False when there was none."""
        if (namespace, workload) not in self.revoked():
            return False
        with self._database.transaction() as connection:
            for table in ("revocations", "revoked_serials"):
                connection.execute(
                    f"DELETE FROM {table} WHERE namespace = ? AND workload = ?", (namespace, workload)  # noqa: S608
                )
            _count(connection)
        return True

    def revoked(self) -> dict[tuple[str, str], float]:
        """The revoked workloads by (namespace, workload), and since when."""
        rows = self._database.read("SELECT namespace, workload, at FROM revocations ORDER BY namespace, workload")
        return {(str(namespace), str(workload)): float(str(at)) for namespace, workload, at in rows}

    def revoked_serials(self, now: float) -> dict[str, list[str]]:
        """The revoked certificates that have not expired: serials by their root's fingerprint."""
        found: dict[str, list[str]] = {}
        for root, serial in self._database.read(
            "SELECT root, serial FROM revoked_serials WHERE expires > ? ORDER BY serial", now
        ):
            found.setdefault(str(root), []).append(str(serial))
        return found

    def revocation_number(self) -> int:
        """How often revocations have changed."""
        [(number,)] = self._database.read("SELECT value FROM counters WHERE name = 'revocations'")
        return int(str(number))

    def _leaves(self, condition: str, *values: object) -> list[Leaf]:
        rows: Iterable[tuple[object, ...]] = self._database.read(
            f"SELECT serial, lineage, namespace, workload, root, issued, expires FROM leaves WHERE {condition}",  # noqa: S608
            *values,
        )
        return [
            Leaf(str(serial), str(lineage), str(namespace), str(workload), str(root), float(str(at)), float(str(end)))
            for serial, lineage, namespace, workload, root, at, end in rows
        ]


def _count(connection: Connection) -> None:
    connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'revocations'")
