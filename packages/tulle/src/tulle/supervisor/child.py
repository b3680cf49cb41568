"""One process kept running: started, started again with back-off when it ends, stopped when asked."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tulle.supervisor.backoff import Backoff
from tulle.supervisor.logs import Show, follow

PR_SET_PDEATHSIG = 1
LAST_WORDS = 1.0
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. ``output`` is the file for standard output where that is too much to be shown; ``enter`` is called
    in the new process before it becomes the program.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    directory: str | None = None
    output: Path | None = None
    enter: Callable[[], None] | None = None


Prepare = Callable[[], Awaitable[Command]]
"""Called before each start: writes what the process needs and says how to run it."""


@dataclass(slots=True)
class Child:
    """A supervised process.

    ``changed`` is called after every start and every end. ``fatal`` exit statuses are not tried again; the
    status is then in ``gave_up``.
    """

    name: str
    prepare: Prepare
    log: Path
    show: Show
    changed: Callable[[], None]
    fatal: frozenset[int] = frozenset()
    pid: int | None = None
    starts: int = 0
    gave_up: int | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins keeping the process running."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self, grace: float, first: signal.Signals = signal.SIGTERM) -> None:
        """Ends the process and everything in its group: ``first``, and SIGKILL after ``grace`` seconds."""
        self._stopping.set()
        task = self._task
        if task is None:
            return
        self.send(first)
        done, _ = await asyncio.wait({task}, timeout=grace)
        if not done:
            self.show(self.name, f"did not end within {grace:g} s and is killed")
            self.send(signal.SIGKILL)
        await task

    def send(self, what: signal.Signals) -> None:
        """Sends a signal to the process's group, if it runs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, what)

    async def _keep(self) -> None:
        backoff = Backoff(random.Random())
        while not self._stopping.is_set():
            began = time.monotonic()
            status = await self._run_once()
            if self._stopping.is_set():
                return
            if status in self.fatal:
                self.gave_up = status
                self.changed()
                return
            wait = backoff.after(time.monotonic() - began)
            self.show(self.name, f"{_ending(status)}; starting it again in {wait:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)

    async def _run_once(self) -> int | str:
        """Runs the process to its end. Returns its exit status, or why it could not be started."""
        try:
            command = await self.prepare()
            process = await _spawn(command)
        except OSError as error:
            return str(error)
        except subprocess.SubprocessError:
            return "its network namespace cannot be entered"
        self.pid = process.pid
        self.starts += 1
        if self._stopping.is_set():
            self.send(signal.SIGTERM)
        self.changed()
        streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
        readers = [asyncio.create_task(follow(each, self.name, self.log, self.show)) for each in streams]
        try:
            status = await process.wait()
        finally:
            self.send(signal.SIGKILL)  # what the process left behind in its group
            self.pid = None
        await _finish(readers)
        self.changed()
        return status


async def _finish(readers: Sequence[asyncio.Task[None]]) -> None:
    """Waits for the last output; whoever still holds the pipe after LAST_WORDS seconds is not listened to."""
    _, late = await asyncio.wait(readers, timeout=LAST_WORDS)
    for reader in late:
        reader.cancel()


async def _spawn(command: Command) -> asyncio.subprocess.Process:
    if command.output is None:
        return await _exec(command, asyncio.subprocess.PIPE)
    with command.output.open("ab") as output:
        return await _exec(command, output.fileno())


async def _exec(command: Command, stdout: int) -> asyncio.subprocess.Process:
    def begin() -> None:
        _die_with_parent()
        if command.enter is not None:
            command.enter()

    return await asyncio.create_subprocess_exec(
        *command.argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env=dict(command.env),
        cwd=command.directory,
        start_new_session=True,
        preexec_fn=begin,
    )


def _die_with_parent() -> None:
    """In the new process: asks Linux to kill it with its parent. The guard covers other systems and grandchildren."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _ending(status: int | str) -> str:
    if isinstance(status, str):
        return f"could not be started: {status}"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
