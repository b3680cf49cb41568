"""Network namespaces as a test meets them: looked at from inside, counted from outside, or not to be had."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tulle.supervisor.namespace import CLONE_NEWNET, PR_CAPBSET_DROP, NamespacesUnavailable, check

T = TypeVar("T")

PATIENCE_S = 10.0
_CAP_SYS_ADMIN = 21


def namespaces_or_skip() -> None:
    """Skips, with the reason, where none can be made."""
    try:
        check()
    except NamespacesUnavailable as error:
        pytest.skip(str(error))


def within(path: str, look: Callable[[], T]) -> T:
    """What a function finds in the namespace with that file, on a thread that ends there."""

    def entered() -> T:
        file = os.open(path, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(file, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(file)
        return look()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(entered).result()


def refused(port: int, address: str = "127.0.0.1") -> bool:
    """Whether nobody listens there."""
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection((address, port), PATIENCE_S).close()
        return False
    return True


def inode(path: str | Path) -> int:
    """What a namespace is known by."""
    return Path(path).stat().st_ino


def inhabitants(namespaces: set[int]) -> set[int]:
    """The processes that have a thread in one of these."""
    found = set()
    for thread in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        with contextlib.suppress(OSError):
            if inode(thread / "ns" / "net") in namespaces:
                found.add(int(thread.parts[2]))
    return found


def give_up_privilege() -> None:
    """For a process that is about to become a program: what that may do, if it is root's, is not enough."""
    libc: Any = ctypes.CDLL(None)
    libc.prctl(PR_CAPBSET_DROP, _CAP_SYS_ADMIN, 0, 0, 0)
