"""Ends every process of a mesh when its supervisor is gone, even after `kill -9`: no orphan survives.

The guard is a small process of its own. It reads from a pipe whose other end only the supervisor holds; at the
pipe's end the supervisor is dead, and the guard kills every process whose environment carries the mesh's mark.
Children of children inherit the mark, so they are found too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MARK = "TULLE_MESH_MARK"
"""Environment variable that every process of a mesh inherits; its value is unique to one run."""

PROCESSES = Path("/proc")
SWEEPS = 50
PAUSE = 0.02


def marked(mark: str) -> list[int]:
    """The processes that carry ``mark``, except this one; none where there is no /proc to look in."""
    needle = f"{MARK}={mark}".encode()
    found: list[int] = []
    if not PROCESSES.is_dir():
        return found
    for entry in PROCESSES.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if needle in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def sweep(mark: str) -> int:
    """Kills all marked processes until none is left; returns how many kills that took."""
    kills = 0
    for _ in range(SWEEPS):
        left = marked(mark)
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        time.sleep(PAUSE)
    return kills


@dataclass(slots=True)
class Guard:
    """The supervisor's side: the guard process and the pipe whose end tells it."""

    process: subprocess.Popen[bytes]
    pipe: int

    @classmethod
    def start(cls, mark: str) -> Guard:
        """Starts the guard; it carries no mark itself and ignores the terminal's signals."""
        read_end, write_end = os.pipe()
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        process = subprocess.Popen(
            [sys.executable, "-m", "tulle.supervisor.guard", mark],
            stdin=read_end, env=environment, start_new_session=True,
        )
        os.close(read_end)
        return cls(process, write_end)

    def stop(self) -> None:
        """Lets the guard sweep what may be left and waits for it."""
        os.close(self.pipe)
        self.process.wait()


def main(mark: str) -> None:
    """Waits for the end of standard input, then sweeps."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    while os.read(0, 64):
        pass
    sweep(mark)


if __name__ == "__main__":
    main(sys.argv[1])
