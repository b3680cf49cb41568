"""One-time join tokens: what lets a workload ask for its first certificate."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

DEFAULT_LIFE = timedelta(minutes=15)
_BYTES = 32


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The workload whose token was redeemed."""

    namespace: str
    workload: str


class TokenStore(Protocol):
    """Keeps tokens by their hash, durably. Times are in seconds since 1970."""

    def add_token(self, digest: str, namespace: str, workload: str, expires: float) -> None:
        """Keeps a token."""

    def take_token(self, digest: str, now: float) -> tuple[str, str] | str:
        """Uses up a token, atomically among all who try: (namespace, workload), or why not."""

    def audit(self, event: str, subject: str, detail: str, now: float, origin: str) -> None:
        """Records something that an auditor wants to know, and from where it came."""


class JoinTokens:
    """Creates and redeems tokens: 256 random bits, of which only a hash is stored."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    def create(self, namespace: str, workload: str, life: timedelta, now: datetime, origin: str = "") -> str:
        """A new token with which this workload can join once, within `life`; `origin` says who asked for it."""
        token = secrets.token_urlsafe(_BYTES)
        expires = now + life
        self._store.add_token(_digest(token), namespace, workload, expires.timestamp())
        subject = f"{namespace}/{workload}"
        self._store.audit("token-created", subject, f"until {expires.isoformat()}", now.timestamp(), origin)
        return token

    def redeem(self, token: str, peer: str, now: datetime) -> Redeemed | str:
        """Uses up a token: the workload it is for, or why it is refused. Both are audited.

        Tell the reason to the auditor, not to the peer: it would learn which tokens exist.
        """
        taken = self._store.take_token(_digest(token), now.timestamp())
        if isinstance(taken, str):
            self._store.audit("token-refused", "", taken, now.timestamp(), peer)
            return taken
        redeemed = Redeemed(*taken)
        subject = f"{redeemed.namespace}/{redeemed.workload}"
        self._store.audit("token-redeemed", subject, "", now.timestamp(), peer)
        return redeemed


def _digest(token: str) -> str:
    # The token is random, so a fast hash without salt is as good as any.
    return hashlib.sha256(token.encode()).hexdigest()
