"""Builds the native helpers, picks ports, and starts and ends the processes of a measurement."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.peers.pair import Missing, Pair

NATIVE = Path(__file__).parent / "native"
PROGRAMS = ("origin", "hop", "load")
START_S = 20.0
STOP_S = 10.0


class DidNotStart(RuntimeError):
    """A process ended or did not listen in time; the text has the end of its output."""


def build(folder: Path) -> None:
    """Compile native/*.c into `folder`; raises Missing without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("no C compiler: apt-get install gcc libc6-dev")
    for name in PROGRAMS:
        source, target = NATIVE / f"{name}.c", folder / name
        subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(source)], check=True
        )


def install_peers(names: tuple[str, ...]) -> None:
    """Install what Debian has and this machine lacks, when that is possible (root and apt-get)."""
    packages = {"haproxy-h2": "haproxy", "haproxy-h1": "haproxy", "nginx": "nginx-light"}
    programs = {"haproxy": "haproxy", "nginx-light": "nginx"}
    path = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
    wanted = sorted({packages[name] for name in names if name in packages})
    lacking = [package for package in wanted if shutil.which(programs[package], path=path) is None]
    apt = shutil.which("apt-get")
    if not lacking or apt is None:
        return
    print(f"installing {', '.join(lacking)}", flush=True)
    subprocess.run([apt, "update", "-qq"], stdout=subprocess.DEVNULL, check=True)
    # No daemon of theirs is started: the benchmark runs its own.
    options = ["install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Options::=--force-confold"]
    with _no_daemons():
        subprocess.run([apt, *options, *lacking], stdout=subprocess.DEVNULL, check=True)


@contextlib.contextmanager
def _no_daemons() -> Iterator[None]:
    """Debian's way to keep a package from starting its service: a policy-rc.d that says no."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def free_ports(count: int) -> list[int]:
    """Different free TCP ports of 127.0.0.1, below the range that outgoing connections take theirs from."""
    found: list[int] = []
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        candidate = 20000 + time.monotonic_ns() // 1000 % 10000
        while len(found) < count:
            candidate += 1
            sock = stack.enter_context(socket.socket())
            try:
                sock.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            sockets.append(sock)
            found.append(candidate)
    return found


@contextlib.contextmanager
def started(command: tuple[str, ...], port: int, output: Path) -> Iterator[int]:
    """The process of `command`, listening on `port`; its pid. It is ended, and waited for, when the block ends."""
    with output.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=output.parent)
    try:
        _wait_for(child, port, output)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_for(child: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        if child.poll() is not None or time.monotonic() > deadline:
            raise DidNotStart(f"{child.args!r}: {output.read_text(errors='replace')[-1500:]}")
        time.sleep(0.02)


@contextlib.contextmanager
def sidecars(pair: Pair, ports: tuple[int, ...], folder: Path) -> Iterator[list[int]]:
    """The pair's processes, server side started first; their pids."""
    with contextlib.ExitStack() as stack:
        pids = []
        for number, (command, port) in reversed(list(enumerate(zip(pair.commands, ports, strict=False)))):
            pids.append(stack.enter_context(started(command, port, folder / f"{number}.out")))
        yield pids


def load(programs: Path, port: int, connections: int, seconds: float, rate: int) -> dict[str, Any]:
    """One run of native/load.c; latencies in microseconds."""
    command = [str(programs / "load"), str(port), str(connections), str(seconds), str(rate)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    return dict(json.loads(output))
