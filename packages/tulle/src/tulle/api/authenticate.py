"""Finds out who calls the admin API: by a bearer token, or on loopback by the user that the connection belongs to."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tulle.api.caller import CALLER, Address, user_of
from tulle.api.roles import ACCESS, Access, Role, Stranger
from tulle.buckets import Buckets

ROOT = 0
FAILURES_PER_SECOND, FAILURES_AT_ONCE = 1.0, 20.0

_NO_TOKEN = "a token is needed: send it as 'Authorization: Bearer TOKEN' (the CLI takes it from TULLE_TOKEN)"  # noqa: S105
_BAD_TOKEN = "this token is unknown, revoked or has expired"  # noqa: S105


class TokenFinder(Protocol):
    """Knows the tokens that were created."""

    def find(self, token: str, now: float) -> Access | None:
        """What its holder may do at a time in seconds since 1970; None for one that is not valid."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who gets in at one listener.

    ``own_token`` is that of the owner of the state directory (empty: none). With ``local_owner`` processes of the
    control plane's own user, and root, need no token: what they send comes over loopback, where the kernel says whose
    connection it is. They could read the state directory just as well.
    """

    tokens: TokenFinder
    own_token: str = ""
    local_owner: bool = False
    clock: Callable[[], float] = time.time
    user_of: Callable[[Address, Address], int | None] = user_of
    failures: Buckets = field(default_factory=lambda: Buckets(FAILURES_PER_SECOND, FAILURES_AT_ONCE))

    def caller(
        self, authorization: list[str], client: Address, server: Address, certificate: str | None = None
    ) -> Access | Stranger:
        """Who this is. Tokens that are not valid are never passed over for another proof.

        ``certificate`` is the subject of the one that the connection's handshake verified; it may read.
        """
        at = f"{client[0]}:{client[1]}"
        if authorization:
            scheme, _, token = authorization[0].partition(" ")
            if len(authorization) != 1 or scheme.lower() != "bearer":
                return Stranger(_NO_TOKEN)
            if self.own_token and hmac.compare_digest(_digest(token), _digest(self.own_token)):
                return Access(f"{at} owner", Role.ADMIN)
            found = self.tokens.find(token, self.clock())
            return Access(f"{at} {found.who}", found.role, found.namespaces) if found else Stranger(_BAD_TOKEN)
        if certificate is not None:
            return Access(f"{at} certificate {certificate}", Role.VIEW)
        if not self.local_owner:
            return Stranger(_NO_TOKEN)
        user = self.user_of(client, server)
        if user is None or user not in (os.geteuid(), ROOT):
            whose = f"user {user}" if user is not None else "an unknown user"
            return Stranger(f"{whose} may not use this API without a token; {_NO_TOKEN}")
        return Access(f"{at} uid {user}", Role.ADMIN)


class Authenticate:
    """ASGI middleware that sets `ACCESS` and `CALLER`; strangers who come too often are marked as such."""

    def __init__(self, app: ASGIApp, entrance: Entrance) -> None:
        self.app = app
        self.entrance = entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
        # As ASGI's TLS extension has it; a listener that asks for no certificate does not set it.
        certificate = scope.get("extensions", {}).get("tls", {}).get("client_cert_name")
        access = self.entrance.caller(Headers(scope=scope).getlist("authorization"), client, server, certificate)
        if isinstance(access, Stranger) and not self.entrance.failures.take(client[0], self.entrance.clock()):
            access = Stranger(access.reason, too_often=True)
        admitted, called = ACCESS.set(access), CALLER.set(access.who if isinstance(access, Access) else "")
        try:
            await self.app(scope, receive, send)
        finally:
            CALLER.reset(called)
            ACCESS.reset(admitted)


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogateescape")).digest()
