"""Attestation on one machine: a Unix socket whose callers the kernel names; users stand for service accounts.

The protocol is one line each way: `NAMESPACE/WORKLOAD`, answered by `token TOKEN` or `refused REASON`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tulle.buckets import Buckets
from tulle.identity.ca import utc_now
from tulle.identity.files import guarded_directory
from tulle.identity.server import Registrations
from tulle.identity.tokens import JoinTokens

LIFE = timedelta(minutes=1)
PATIENCE = 5.0
LONGEST = 1024
_CREDENTIALS = struct.Struct("3i")
"""Linux's struct ucred: process, user, group (unix(7))."""

Accounts = Mapping[int, frozenset[tuple[str, str]]]
"""By user id, the (namespace, service account) pairs that this user's processes may be."""


@dataclass(slots=True)
class AttestationServer:
    """Hands out join tokens to those whom `accounts` names."""

    accounts: Accounts
    registrations: Registrations
    tokens: JoinTokens
    clock: Callable[[], float] = time.monotonic
    limit: Buckets = field(default_factory=lambda: Buckets(rate=5.0, burst=200.0))
    _server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listens. Everybody may ask; nobody else may put a socket in its place. Raises OSError, `UnsafeKeyError`."""
        guarded_directory(path.parent)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path, limit=LONGEST)
        path.chmod(0o666)

    def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()

    def decide(self, asked: str, user: int, process: int) -> str:
        """The answer to a user's process that wants to be a workload."""
        if not self.limit.take(str(user), self.clock()):
            return "refused too many requests: wait and try again"
        namespace, _, name = asked.partition("/")
        identity = self.registrations.identity_of(namespace, name)
        allowed = self.accounts.get(user, frozenset())
        # One answer for both, so that nobody can ask which workloads there are.
        if identity is None or (namespace, identity.spiffe_id.service_account) not in allowed:
            return f"refused user {user} is no workload of that name"
        token = self.tokens.create(namespace, name, LIFE, utc_now(), f"unix uid {user} pid {process}")
        return f"token {token}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            peer: socket.socket = writer.get_extra_info("socket")
            found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            process, user, _ = _CREDENTIALS.unpack(found)
            async with asyncio.timeout(PATIENCE):
                asked = (await reader.readline()).decode()
                writer.write(f"{self.decide(asked.strip(), user, process)}\n".encode())
                await writer.drain()
        writer.close()
