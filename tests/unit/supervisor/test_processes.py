"""Processes under supervision: restarted, stopped with all they started, followed, and swept when orphaned."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tulle.supervisor.child import Child, Command
from tulle.supervisor.guard import MARK, Guard, marked
from tulle.supervisor.logs import follow, quiet


def child(tmp_path: Path, script: str, changed: asyncio.Event, fatal: frozenset[int] = frozenset()) -> Child:
    async def prepare() -> Command:
        return Command([sys.executable, "-c", script], dict(os.environ))

    return Child("it", prepare, tmp_path / "it.log", quiet, changed.set, fatal)


async def until(changed: asyncio.Event, holds: object) -> None:
    async with asyncio.timeout(30):
        while not holds():  # type: ignore[operator]
            await changed.wait()
            changed.clear()


async def test_what_ends_is_started_again_and_its_output_kept(tmp_path: Path) -> None:
    changed = asyncio.Event()
    kept = child(tmp_path, "print('hello')", changed)
    kept.start()
    await until(changed, lambda: kept.starts >= 3)
    await kept.stop(10)
    assert (tmp_path / "it.log").read_text().count("hello") >= 2
    assert kept.pid is None


async def test_a_fatal_status_is_not_tried_again(tmp_path: Path) -> None:
    changed = asyncio.Event()
    kept = child(tmp_path, "raise SystemExit(2)", changed, frozenset({2}))
    kept.start()
    await until(changed, lambda: kept.gave_up == 2)
    assert kept.starts == 1
    await kept.stop(10)


async def test_stopping_takes_grandchildren_along(tmp_path: Path) -> None:
    changed = asyncio.Event()
    script = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    lines: list[str] = []
    kept = child(tmp_path, script, changed)

    def show(name: str, line: str) -> None:
        lines.append(line)
        changed.set()

    kept.show = show
    kept.start()
    await until(changed, lambda: lines)
    grandchild = int(lines[0])
    await kept.stop(10)
    for _ in range(500):
        if not _runs(grandchild):
            break
        await asyncio.sleep(0.01)
    assert not _runs(grandchild)


async def test_what_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    changed = asyncio.Event()
    ignore = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    script = ignore + "print('on', flush=True)\ntime.sleep(600)"
    kept = child(tmp_path, script, changed)
    started = asyncio.Event()

    def show(name: str, line: str) -> None:
        started.set()

    kept.show = show
    kept.start()
    await asyncio.wait_for(started.wait(), 30)
    await kept.stop(0.1)
    assert kept.pid is None


async def test_a_refused_start_is_tried_again(tmp_path: Path) -> None:
    tries = 0
    changed = asyncio.Event()

    async def prepare() -> Command:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise FileNotFoundError("not yet")
        return Command(["/bin/sh", "-c", "sleep 600"], dict(os.environ))

    kept = Child("it", prepare, tmp_path / "log", quiet, changed.set)
    kept.start()
    await until(changed, lambda: kept.pid is not None)
    assert tries == 3
    await kept.stop(10)


async def test_output_is_shown_by_line_and_a_last_line_without_end_too(tmp_path: Path) -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\ntw")
    stream.feed_data(b"o\nthree")
    stream.feed_eof()
    shown: list[str] = []
    await follow(stream, "n", tmp_path / "log", lambda name, line: shown.append(line))
    assert shown == ["one", "two", "three"]
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the guard reads /proc")
def test_the_guard_kills_what_carries_the_mark_when_the_pipe_closes() -> None:
    mark = secrets.token_hex(8)
    guard = Guard.start(mark)
    orphan = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: mark}, start_new_session=True)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    assert marked(mark) == [orphan.pid]
    guard.stop()
    assert orphan.wait(10) == -signal.SIGKILL
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
