"""Gives this mesh's sidecars one-time join tokens when they ask, over a Unix socket that only their user can open.

A sidecar needs one for its first certificate, and again when its certificate has expired because the control plane was
away for too long. The protocol is that of `identity.attestation`: one line each way.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from tulle.supervisor.client import Unreachable

PATIENCE = 5.0
LONGEST = 1024
_WORKLOAD = re.compile(r"([a-z0-9][a-z0-9.-]*)/([a-z0-9][a-z0-9.-]*)")

NewToken = Callable[[str, str], Awaitable[str]]
"""Gets a one-time join token for the workload of that namespace and name. Raises `Unreachable`."""


class TokenDoor:
    """Listens at ``path``, which is in a directory that is its user's alone."""

    def __init__(self, path: Path, new_token: NewToken) -> None:
        self.path = path
        self._new_token = new_token
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begins to listen. Raises OSError."""
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=LONGEST)
        self.path.chmod(0o600)

    def close(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Without the control plane there is no answer, and the sidecar asks again.
        with contextlib.suppress(OSError, TimeoutError, ValueError, Unreachable):
            async with asyncio.timeout(PATIENCE):
                asked = _WORKLOAD.fullmatch((await reader.readline()).decode().strip())
                answer = await self._answer(asked[1], asked[2]) if asked else "refused that is no workload"
                writer.write(f"{answer}\n".encode())
                await writer.drain()
        writer.close()

    async def _answer(self, namespace: str, name: str) -> str:
        return f"token {await self._new_token(namespace, name)}"
