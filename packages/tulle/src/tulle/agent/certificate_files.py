"""A proxyless gRPC client's certificate in files, replaced whenever it changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tulle.agent.held import Held
from tulle.identity.files import private_directory, write_private

REFRESH_SECONDS = 10
"""How often gRPC looks at the files again, as its bootstrap tells it."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Key, certificate and root in a directory that only the owner can enter."""

    directory: Path

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    @property
    def certificate(self) -> Path:
        return self.directory / "cert.pem"

    @property
    def root(self) -> Path:
        return self.directory / "root.pem"

    def write(self, held: Held) -> None:
        """Replaces the three files. gRPC takes up a new key and certificate only when they match."""
        private_directory(self.directory)
        write_private(self.root, held.root.encode())
        write_private(self.key, held.key.encode())
        write_private(self.certificate, held.leaf.encode())

    async def taken_up(self) -> None:
        """Waits until gRPC has looked at the files again."""
        await asyncio.sleep(REFRESH_SECONDS)
