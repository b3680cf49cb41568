"""The admin API's tokens as they are kept: by a hash, so that whoever reads the store has none of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tulle.sources.store_db import Database


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A token without itself; times are in seconds since 1970, `expires` is None when it does not."""

    id: str
    name: str
    role: str
    namespaces: tuple[str, ...]
    created: float
    expires: float | None


class TokenLedger:
    """Creates, finds and removes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, token: KeptToken, digest: str) -> None:
        """Keeps a token by its hash."""
        values = (digest, token.id, token.name, token.role, json.dumps(token.namespaces), token.created, token.expires)
        with self._database.transaction() as connection:
            connection.execute("INSERT INTO api_tokens VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def find(self, digest: str) -> KeptToken | None:
        """The token with that hash, expired or not."""
        found = self._tokens("WHERE digest = ?", digest)
        return found[0] if found else None

    def all(self) -> list[KeptToken]:
        """All tokens, by name."""
        return self._tokens("ORDER BY name")

    def remove(self, identifier: str) -> None:
        """Forgets the token with that id."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM api_tokens WHERE id = ?", (identifier,))

    def _tokens(self, condition: str, *values: object) -> list[KeptToken]:
        rows = self._database.read(
            f"SELECT id, name, role, namespaces, created, expires FROM api_tokens {condition}",  # noqa: S608
            *values,
        )
        return [
            KeptToken(
                str(identifier), str(name), str(role), tuple(json.loads(str(namespaces))), float(str(created)),
                None if expires is None else float(str(expires)),
            )
            for identifier, name, role, namespaces, created, expires in rows
        ]
