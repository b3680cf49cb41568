"""Backup and restore of the state directory: the authority's keys, the store, the last accepted files."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tulle.controlplane.accepted import FILE as ACCEPTED
from tulle.controlplane.accepted import Accepted
from tulle.identity.ca import Authority
from tulle.identity.signer import RootUnusableError
from tulle.identity.trust_state import FILE as TRUST
from tulle.sources.store import Store
from tulle.sources.store_db import StoreError

STORE, AUTHORITY = "store.db", "ca"
ATTEMPTS = 5


class BackupError(Exception):
    """No backup was made or restored; the message says why. Nothing was changed."""


def back_up(state: Path, target: Path) -> None:
    """Writes a backup, readable by its owner alone, also while a control plane runs. It holds private keys.

    Raises `BackupError`, or OSError.
    """
    if not (state / AUTHORITY / TRUST).exists() or not (state / STORE).exists():
        raise BackupError(f"{state} is no control plane's state directory")
    with _beside(target) as folder:
        content = folder / "state"
        content.mkdir(mode=0o700)
        _copy_authority(state / AUTHORITY, content / AUTHORITY)
        # Before the store, which would otherwise be the older one of the two.
        if (state / ACCEPTED).exists():
            shutil.copy2(state / ACCEPTED, content / ACCEPTED)
        _copy_store(state / STORE, content / STORE)
        made = folder / "backup"
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                archive.add(content, ".")
            file.flush()
            os.fsync(file.fileno())
        made.replace(target)


def restore(source: Path, state: Path, trust_domain: str, now: datetime) -> None:
    """Makes a state directory of a backup, when all of it is whole. There must be none yet, or an empty one.

    Raises `BackupError`, or OSError.
    """
    if state.exists() and any(state.iterdir()):
        raise BackupError(f"{state} is not empty: stop its control plane and move it away first")
    state.parent.mkdir(parents=True, exist_ok=True)
    with _beside(state) as folder:
        content = folder / "state"
        content.mkdir(mode=0o700)
        try:
            _verify(source)
            with tarfile.open(source, "r:gz") as archive:
                archive.extractall(content, filter="data")
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
            raise BackupError(f"{source} is no backup, or damaged: {error}") from error
        for path in (content, *content.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
        _check(content, source, trust_domain, now)
        content.replace(state)


def _verify(source: Path) -> None:
    """Reads to the end, where the checksum is: unpacking alone stops where the archive ends, before it."""
    with gzip.open(source) as whole:
        while whole.read(1 << 20):
            pass


def _check(content: Path, source: Path, trust_domain: str, now: datetime) -> None:
    if not (content / AUTHORITY).is_dir() or not (content / STORE).is_file():
        raise BackupError(f"{source} is no backup: it holds no authority or no store")
    try:
        Authority.open(content, trust_domain, now)
        Store.open(content / STORE).close()
        Accepted.load(content)
    except (RootUnusableError, StoreError, ValueError) as error:
        raise BackupError(f"{source} cannot be used: {error}") from error


def _copy_authority(source: Path, target: Path) -> None:
    """A rotation may go on meanwhile: the copy counts when the state was the same before and after."""
    for _ in range(ATTEMPTS):
        before = (source / TRUST).read_bytes()
        shutil.rmtree(target, ignore_errors=True)
        try:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"))
        except (shutil.Error, FileNotFoundError):
            continue
        if (source / TRUST).read_bytes() == before == (target / TRUST).read_bytes():
            return
    raise BackupError("the authority's state changes all the time: try again when the rotation is done")


def _copy_store(source: Path, target: Path) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        reading = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
        try:
            writing = sqlite3.connect(target)
            try:
                reading.backup(writing)
            finally:
                writing.close()
        finally:
            reading.close()
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{source} is damaged, so there is nothing to back up: {error}") from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A private folder on the same file system, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=".tulle-", dir=path.absolute().parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
