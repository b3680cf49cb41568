"""The admin API's tokens: created for a role, known by a hash, gone when revoked or expired."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from tulle.api.backend import Refused
from tulle.api.roles import Access, Role
from tulle.api.tokens import NewToken, TokenRequest, TokenView
from tulle.controlplane.audit import Auditor
from tulle.sources.store_tokens import KeptToken, TokenLedger

PREFIX = "tulle_"
"""So that tools which look for leaked secrets can find them."""

_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST_LIFE = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class ApiTokens:
    """Implements `TokenBackend` and `TokenFinder`. `clock` is in seconds since 1970."""

    ledger: TokenLedger
    auditor: Auditor
    clock: Callable[[], float]

    def create(self, request: TokenRequest) -> NewToken:
        """A new token of 256 random bits, of which only a hash is kept."""
        role = _checked(request)
        if any(each.name == request.name for each in self.ledger.all()):
            raise Refused.because(409, "exists", f"there is a token {request.name} already: revoke it first")
        now = self.clock()
        token = PREFIX + secrets.token_urlsafe(_BYTES)
        expires = now + request.life if request.life is not None else None
        kept = KeptToken(secrets.token_hex(4), request.name, role, tuple(request.namespaces), now, expires)
        self.ledger.add(kept, _digest(token))
        self.auditor.note("api-token-created", request.name, f"{kept.id} {_rights(kept)}", now)
        return NewToken(token=token, view=_view(kept))

    def listed(self) -> list[TokenView]:
        """The tokens that have not expired, by name."""
        now = self.clock()
        return [_view(each) for each in self.ledger.all() if each.expires is None or now < each.expires]

    def revoke(self, name: str) -> None:
        """Forgets a token, by id or name."""
        found = [each for each in self.ledger.all() if name in (each.id, each.name)]
        if not found:
            raise Refused.because(404, "not-found", f"there is no token {name!r:.80}")
        for each in found:
            self.ledger.remove(each.id)
            self.auditor.note("api-token-revoked", each.name, each.id, self.clock())

    def find(self, token: str, now: float) -> Access | None:
        """What the holder may do."""
        kept = self.ledger.find(_digest(token))
        if kept is None or (kept.expires is not None and now >= kept.expires):
            return None
        return Access(f"token {kept.name} ({kept.id})", Role(kept.role), kept.namespaces)


def _checked(request: TokenRequest) -> Role:
    """The role that is asked for. Raises `Refused` for what makes no sense."""
    if not _NAME.fullmatch(request.name):
        raise _malformed("name", "must be letters, digits, dots, dashes and underscores, at most 63")
    if request.role not in set(Role):
        raise _malformed("role", f"must be one of {', '.join(Role)}")
    role = Role(request.role)
    if (role is Role.EDIT) != bool(request.namespaces):
        raise _malformed("namespaces", "are what the role edit needs, and no other has")
    if len(request.namespaces) > 100 or not all(_NAMESPACE.fullmatch(each) for each in request.namespaces):
        raise _malformed("namespaces", "must be at most 100 names of namespaces")
    if request.life is not None and not 0 < request.life <= LONGEST_LIFE:
        raise _malformed("life", "must be seconds above 0, at most ten years")
    return role


def _malformed(field: str, reason: str) -> Refused:
    return Refused.because(400, "malformed", f"{field}: {reason}")


def _rights(kept: KeptToken) -> str:
    return f"{kept.role} {','.join(kept.namespaces)}".strip()


def _view(kept: KeptToken) -> TokenView:
    return TokenView(
        id=kept.id, name=kept.name, role=kept.role, namespaces=list(kept.namespaces), created=kept.created,
        expires=kept.expires,
    )


def _digest(token: str) -> str:
    # The token is random, so a fast hash without salt is as good as any.
    return sha256(token.encode(errors="surrogateescape")).hexdigest()
