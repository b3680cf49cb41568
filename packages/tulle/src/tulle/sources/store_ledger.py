"""What the store keeps beside configuration: join tokens, the audit log, where sidecars were placed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tulle.sources.store_audit import AuditLog


class Ledger(AuditLog):
    """Tokens (as `tulle.identity.tokens.TokenStore` wants them), audit, placements."""

    def add_token(self, digest: str, namespace: str, workload: str, expires: float) -> None:
        """Keeps a token by its hash; `expires` is in seconds since 1970."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, NULL)", (digest, namespace, workload, expires)
            )

    def take_token(self, digest: str, now: float) -> tuple[str, str] | str:
        """Uses up a token: its (namespace, workload) for exactly one caller, for all others why not."""
        with self._database.transaction() as connection:
            used = connection.execute(
                "UPDATE tokens SET used = ? WHERE digest = ? AND used IS NULL AND expires > ?",
                (now, digest, now),
            )
            rows = connection.execute(
                "SELECT namespace, workload, used FROM tokens WHERE digest = ?", (digest,)
            ).fetchall()
            # Long expired tokens say nothing any more that "unknown" does not.
            connection.execute("DELETE FROM tokens WHERE expires < ?", (now - 7 * 86_400,))
        if not rows:
            return "the token is unknown"
        namespace, workload, used_at = rows[0]
        if used.rowcount == 1:
            return namespace, workload
        return "the token has expired" if used_at is None else "the token was used before"

    def place(self, namespace: str, workload: str, placement: Mapping[str, Any]) -> None:
        """Keeps where a workload's sidecar listens (JSON-like data), replacing what was kept."""
        document = json.dumps(placement, sort_keys=True)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO placements VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET document = excluded.document",
                (namespace, workload, document),
            )

    def unplace(self, namespace: str, workload: str) -> None:
        """Forgets a placement; none is fine."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM placements WHERE namespace = ? AND workload = ?", (namespace, workload)
            )

    def placements(self) -> dict[tuple[str, str], dict[str, Any]]:
        """All placements by (namespace, workload)."""
        rows = self._database.read("SELECT namespace, workload, document FROM placements")
        return {
            (str(namespace), str(workload)): json.loads(str(document))
            for namespace, workload, document in rows
        }
