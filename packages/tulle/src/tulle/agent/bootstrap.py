"""What a proxyless gRPC client needs: its certificate in files, and the bootstrap that names them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tulle.agent.held import Held
from tulle.identity.files import private_directory, write_private

REFRESH_SECONDS = 10
REFRESH = f"{REFRESH_SECONDS}s"
"""How often gRPC looks at the files again."""


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

    def watched(self) -> dict[str, str]:
        """The configuration of gRPC's `file_watcher` (and of its `tls` channel credentials)."""
        return {
            "certificate_file": str(self.certificate),
            "private_key_file": str(self.key),
            "ca_certificate_file": str(self.root),
            "refresh_interval": REFRESH,
        }


def grpc_bootstrap(xds_address: str, node: dict[str, Any], files: CertificateFiles) -> dict[str, Any]:
    """The bootstrap for `GRPC_XDS_BOOTSTRAP`, as JSON-like data.

    `node` is the node of the xDS protocol (id, cluster, metadata). The control plane is reached with the same
    files as peers are, and proves itself by the host in `xds_address`, which its certificate must name.
    """
    watched = files.watched()
    return {
        "xds_servers": [
            {
                "server_uri": xds_address,
                "channel_creds": [{"type": "tls", "config": watched}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": node,
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": watched}},
    }
