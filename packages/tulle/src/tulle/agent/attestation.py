"""Gets a join token from the control plane on the same machine, which asks the kernel whose process this is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tulle.agent.ca_client import AuthorityUnavailableError, CertificateRefusedError

PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Attestation:
    """Where to ask, and for which workload (`NAMESPACE/NAME`)."""

    socket: Path
    workload: str

    async def token(self) -> str:
        """A one-time token. Raises `AuthorityUnavailableError` or `CertificateRefusedError`."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_unix_connection(self.socket)
                try:
                    writer.write(f"{self.workload}\n".encode())
                    await writer.drain()
                    answer = (await reader.readline()).decode(errors="replace").strip()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            raise AuthorityUnavailableError(f"{self.socket}: {error or 'no answer in time'}") from error
        if not answer:
            raise AuthorityUnavailableError(f"{self.socket}: no answer")
        kind, _, text = answer.partition(" ")
        if kind == "token":
            return text
        raise CertificateRefusedError(f"the control plane does not take this process for {self.workload}: {text}")
