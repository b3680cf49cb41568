"""A network namespace for one workload (`tulle up --net ns`): `lo` and nothing else, for as long as this process wants.

A namespace lives while something is in it or holds it open. One thread of the supervisor is in each workload's, for
looking whether the application answers; a descriptor of the supervisor's holds it too, under a link in the workload's
folder that has the same path in every run. Nothing is mounted, so that nothing of it outlives the supervisor and the
application, whichever way they end. The sidecar stays outside and makes its sockets through that path.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 1
LO = 1
"""The index that `lo` has in every namespace."""

CAP_NET_ADMIN, CAP_SETPCAP, CAP_SYS_ADMIN = 12, 8, 21
TENTATIVE = 5.0
"""Seconds that an address just added may take until it can be used."""

NEEDED = {CAP_SYS_ADMIN: "CAP_SYS_ADMIN", CAP_NET_ADMIN: "CAP_NET_ADMIN", CAP_SETPCAP: "CAP_SETPCAP"}
"""For making and entering a namespace, for `lo`, and for leaving an application without the means to get out."""

WAYS_OUT = (CAP_SYS_ADMIN, CAP_NET_ADMIN, 16, 17, 19, 38, 39)
"""What the application runs without, though it be root: entering another namespace, linking its own to another, loading
modules, raw memory, tracing processes that are outside, tracing the kernel, BPF (capabilities(7)).
"""

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_CALLS = {name: getattr(_LIBC, name) for name in ("prctl", "setns", "unshare")} if _LIBC is not None else {}
"""Looked up before any fork: the linker's locks may be held by another thread then."""


class NamespacesUnavailable(Exception):
    """No network namespace can be made here; the message says what is missing."""


def check() -> None:
    """Makes a namespace that is given up at once. Raises `NamespacesUnavailable`."""
    if sys.platform != "linux":
        raise NamespacesUnavailable("--net ns needs Linux: use --net host")
    lacking = _lacking()
    if lacking:
        raise NamespacesUnavailable(
            f"--net ns needs {', '.join(lacking)}, which this process does not have: run it as root, or use --net host"
        )
    try:
        with ThreadPoolExecutor(1) as thread:
            os.close(thread.submit(_unshare, "127.0.0.1").result())
    except OSError as error:
        message = f"--net ns: this system makes no network namespace ({error}): use --net host"
        raise NamespacesUnavailable(message) from error


def _lacking() -> list[str]:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(each for each in status.splitlines() if each.startswith("CapEff:"))
    has = int(line.split()[1], 16)
    return [name for number, name in NEEDED.items() if not has >> number & 1]


class Namespace:
    """One workload's. ``path`` is the file by which data planes and `tulle exec` enter."""

    def __init__(self, path: Path, address: str) -> None:
        """Makes it, with the workload's ``address`` on `lo`. Raises OSError."""
        self.path = path
        self._within = ThreadPoolExecutor(1, thread_name_prefix="netns")
        self._file = self._within.submit(_unshare, address).result()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.symlink_to(f"/proc/{os.getpid()}/fd/{self._file}")

    async def run(self, look: Callable[[], T]) -> T:
        """What a function that may block for a while finds from inside."""
        return await asyncio.get_running_loop().run_in_executor(self._within, look)

    def enter(self) -> None:
        """In a process that is about to become the application's: goes inside for good. Raises OSError."""
        enter(self._file)

    def close(self) -> None:
        """Gives it up; it ends with the last process and socket in it."""
        self._within.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(OSError):
            self.path.unlink()
            os.close(self._file)


def enter(namespace: int) -> None:
    """Takes the calling process, of one thread, into the namespace with that descriptor, and from it the ways out."""
    _call("setns", namespace, CLONE_NEWNET)
    _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in WAYS_OUT:
        try:
            _call("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError as error:
            if error.errno != errno.EINVAL:  # an older kernel does not have it
                raise


def _unshare(address: str) -> int:
    """Takes the calling thread into a new namespace; the descriptor that holds it open. Raises OSError."""
    _call("unshare", CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x8x", b"lo", IFF_UP))
    _add(address)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _add(address: str) -> None:
    """Gives `lo` an address, so that an application can listen on its workload's own: nobody else has it there."""
    at = ip_address(address)
    if at.is_loopback:
        return
    if at.version == 4:
        family, request = socket.AF_INET, struct.pack("16sHH4s8x8x", b"lo:1", socket.AF_INET, 0, at.packed)
    else:
        family, request = socket.AF_INET6, struct.pack("16sIi", at.packed, at.max_prefixlen, LO)
    with socket.socket(family, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFADDR, request)
        _until_usable(control, address)


def _until_usable(probe: socket.socket, address: str) -> None:
    """An IPv6 address is tentative until a worker of the kernel has looked at it (RFC 4862 §5.4). Raises OSError."""
    deadline = time.monotonic() + TENTATIVE
    while True:
        try:
            return probe.bind((address, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > deadline:
                raise
        time.sleep(TENTATIVE / 1000)


def _call(name: str, *arguments: int) -> None:
    if _CALLS[name](*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
