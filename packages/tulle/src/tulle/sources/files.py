"""Tells when configuration files and directories have been edited, however the editing was done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path

from watchfiles import Change, awatch
from watchfiles.main import FileChange

from tulle.sources.yaml_reader import files_in

QUIET_MS = 10
"""How long nothing must happen before an edit counts as finished: editors and checkouts write many times."""

LONGEST_MS = 200
"""How long an edit that does not come to rest is waited for."""

LOOK_AGAIN_MS = 2_000
"""How often to look without being told: for network file systems, and directories that were replaced."""


async def edits(paths: Sequence[Path]) -> AsyncIterator[None]:
    """Yields once at the start and then after every edit of the files at `paths` or in the directories there.

    What is written between two yields is never missed, whatever the consumer does meanwhile. Subdirectories are
    not watched. Ends only by being closed.
    """
    own = tuple(path.absolute() for path in paths)
    watcher = _watch(own)
    wake = asyncio.ensure_future(anext(watcher))
    try:
        # One turn of the loop sets the watch up, so that no edit after the stamp is missed.
        await asyncio.sleep(0)
        stamp = tuple(_stamps(own))
        yield
        while True:
            await wake
            wake = asyncio.ensure_future(anext(watcher))
            # Compared and not believed: an event may mean nothing, and may have been lost.
            now = tuple(_stamps(own))
            if now != stamp:
                stamp = now
                yield
    finally:
        wake.cancel()
        await asyncio.wait([wake])


def _watch(own: Sequence[Path]) -> AsyncGenerator[set[FileChange], None]:
    """Yields when something happened, or might have."""

    def concerns(change: Change, path: str) -> bool:
        changed = Path(path)
        # A link may be moved anywhere along its way, as Kubernetes does with mounted configuration.
        return any(each in (changed, changed.parent) or each.is_symlink() for each in own)

    # Of a file the directory is watched, since editors put a new file in its place.
    directories = {path if path.is_dir() else path.parent for path in own}
    return awatch(
        *(directory for directory in directories if directory.is_dir()),
        watch_filter=concerns,
        debounce=LONGEST_MS,
        step=QUIET_MS,
        rust_timeout=LOOK_AGAIN_MS,
        yield_on_timeout=True,
        recursive=False,
    )


def _stamps(paths: Sequence[Path]) -> Iterator[tuple[str, int, int, int]]:
    """Name, inode, size and time of each file: equal as long as nobody has written."""
    for path in paths:
        try:
            for file in files_in(path) if path.is_dir() else (path,):
                found = file.stat()
                yield str(file), found.st_ino, found.st_size, found.st_mtime_ns
        except OSError:
            # Gone, or going: that is a state too, and it differs from being there.
            yield str(path), 0, 0, 0
