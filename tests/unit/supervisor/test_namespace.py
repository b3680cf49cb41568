"""A workload's network namespace: what is in it, who can enter, and that it goes."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from harness.namespaces import inhabitants, inode, namespaces_or_skip, within
from tulle.supervisor.child import Child, Command
from tulle.supervisor.namespace import Namespace
from tulle.supervisor.probes import http_probe_within, port_probe_within


def listening(address: str, port: int = 0) -> socket.socket:
    return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "192.0.2.7", "2001:db8::7"])
async def test_an_application_can_listen_on_its_address(tmp_path: Path, address: str) -> None:
    namespaces_or_skip()
    namespace = Namespace(tmp_path / "netns", address)
    try:
        with within(str(namespace.path), lambda: listening(address)) as server:
            port = server.getsockname()[1]
            assert await port_probe_within(namespace, address, [port])()
            assert not await port_probe_within(namespace, address, [port, 1])()
        assert not await http_probe_within(namespace, (address, port), "/")()
    finally:
        namespace.close()


async def test_it_goes_with_the_last_who_is_in_it(tmp_path: Path) -> None:
    namespaces_or_skip()
    namespace = Namespace(tmp_path / "netns", "127.0.0.1")
    itself = inode(namespace.path)
    assert itself != inode("/proc/self/ns/net")
    ended = asyncio.Event()

    async def prepare() -> Command:
        script = "import time; print('it runs', flush=True); time.sleep(600)"
        return Command([sys.executable, "-c", script], dict(os.environ), enter=namespace.enter)

    child = Child("it", prepare, tmp_path / "it.log", lambda _name, _line: ended.set(), lambda: None)
    child.start()
    async with asyncio.timeout(30):
        await ended.wait()
    assert inhabitants({itself}) == {child.pid, os.getpid()}
    await child.stop(10)
    namespace.close()
    assert not namespace.path.is_symlink()
    async with asyncio.timeout(30):
        while inhabitants({itself}):
            await asyncio.sleep(0.01)


async def test_what_cannot_enter_does_not_run(tmp_path: Path) -> None:
    """Not even elsewhere."""

    def enter() -> None:
        raise OSError("there is no such namespace")

    ran, told = tmp_path / "ran", asyncio.Event()

    async def prepare() -> Command:
        return Command([sys.executable, "-c", f"open({str(ran)!r}, 'w')"], dict(os.environ), enter=enter)

    child = Child("it", prepare, tmp_path / "it.log", lambda _name, _line: told.set(), lambda: None)
    child.start()
    async with asyncio.timeout(30):
        await told.wait()
    await child.stop(10)
    assert not ran.exists()
