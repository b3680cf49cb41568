"""The other trust domains that the mesh is federated with, and their roots."""

from __future__ import annotations

from dataclasses import dataclass

from tulle.sources.store_db import Database


@dataclass(frozen=True, slots=True)
class Federated:
    """A trust domain with its roots in PEM; `url` is where they are fetched again (empty: nowhere).

    `updated` is in seconds since 1970.
    """

    domain: str
    roots: str
    url: str
    updated: float


class FederationLedger:
    """Keeps them, durably."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, each: Federated) -> None:
        """Adds a trust domain, or replaces what is known of it."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO federation VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " roots = excluded.roots, url = excluded.url, updated = excluded.updated",
                (each.domain, each.roots, each.url, each.updated),
            )

    def remove(self, domain: str) -> bool:
        """Forgets a trust domain; False when it was not known."""
        with self._database.transaction() as connection:
            return connection.execute("DELETE FROM federation WHERE domain = ?", (domain,)).rowcount > 0

    def all(self) -> list[Federated]:
        """All, by name."""
        rows = self._database.read("SELECT domain, roots, url, updated FROM federation ORDER BY domain")
        return [
            Federated(str(domain), str(roots), str(url), float(str(updated)))
            for domain, roots, url, updated in rows
        ]
