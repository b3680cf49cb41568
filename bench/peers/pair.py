"""What every peer is given and what it gives: folders and ports in, commands and configurations out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


class Missing(RuntimeError):
    """A program that the benchmark needs is not there; the text says how to get it."""


@dataclass(frozen=True, slots=True)
class Site:
    """One pair's surroundings: its folder, the native programs, certificates, ports, and the variant to configure."""

    folder: Path
    native: Path
    certificates: Path
    outbound: int
    inbound: int
    origin: int
    variant: str

    @property
    def features(self) -> bool:
        """Whether metrics, access log and authorization are on."""
        return self.variant == "features"

    def certificate(self, name: str) -> str:
        """The path of a file of certificates.py."""
        return str(self.certificates / name)

    def write(self, name: str, content: str) -> Path:
        """Write a configuration file of the pair."""
        path = self.folder / name
        path.write_text(content)
        return path


@dataclass(frozen=True, slots=True)
class Pair:
    """The sidecars' command lines, client side first; the port that load goes to; and the version that was measured."""

    commands: tuple[tuple[str, ...], ...]
    port: int
    version: str
    configs: tuple[Path, ...] = field(default=())
