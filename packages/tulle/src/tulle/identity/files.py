"""Files for private keys: written atomically for the owner alone, refused when others could read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OTHERS = 0o077
OTHERS_WRITE = 0o022


class UnsafeKeyError(Exception):
    """A private key, or the directory it is in, is open to others than the user that runs this."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: {reason}. {remedy}")
        self.path = path


def private_directory(path: Path) -> None:
    """Makes a directory (and its parents) for the owner alone, or checks that it is one."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(path, OTHERS, "chmod 700")


def guarded_directory(path: Path) -> None:
    """Makes a directory for the owner alone, or checks that nobody else could replace what is in it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(path, OTHERS_WRITE, "chmod 700")


def guarded_file(path: Path) -> None:
    """Checks that nobody else could have written a file, if there is one."""
    if path.exists() or path.is_symlink():
        _check(path, OTHERS_WRITE, "chmod 600")


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file atomically and durably with one that its owner alone can read (mode 0600)."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes a rename inside a directory survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes:
    """The content of a private file. Raises `UnsafeKeyError`, or `FileNotFoundError`."""
    _check(path, OTHERS, "chmod 600")
    return path.read_bytes()


def _check(path: Path, forbidden: int, remedy: str) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise UnsafeKeyError(path, "is a symbolic link", "Put the real file or directory there")
    if found.st_uid != os.geteuid():
        raise UnsafeKeyError(path, f"belongs to user {found.st_uid}, not {os.geteuid()}", "Change its owner")
    if found.st_mode & forbidden:
        mode = stat.S_IMODE(found.st_mode)
        reason = f"is open to other users (mode {mode:04o})"
        raise UnsafeKeyError(path, reason, f"Close it: {remedy} {path}; and replace keys they may have seen")
