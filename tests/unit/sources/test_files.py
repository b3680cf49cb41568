"""Watched files: edits are seen however they are made, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tulle.sources.files import edits


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text("a")
    return tmp_path


@asynccontextmanager
async def watching(*paths: Path) -> AsyncIterator[AsyncIterator[None]]:
    """The edits after the start."""
    watched = edits(paths)
    await anext(watched)
    try:
        yield watched
    finally:
        await watched.aclose()


async def until(path: Path, content: str | None, watched: AsyncIterator[None]) -> None:
    """Waits for an edit after which the file is so: a write may be seen in parts."""
    async for _ in watched:
        found = path.read_text() if path.exists() else None
        if found == content:
            return


async def test_changes_additions_and_removals_in_a_directory(directory: Path) -> None:
    async with watching(directory) as watched:
        (directory / "a.yaml").write_text("changed")
        await until(directory / "a.yaml", "changed", watched)
        (directory / "c.json").write_text("new")
        await until(directory / "c.json", "new", watched)
        (directory / "a.yaml").unlink()
        await until(directory / "a.yaml", None, watched)


async def test_a_file_that_is_replaced_again_and_again_as_editors_do(directory: Path) -> None:
    async with watching(directory / "a.yaml") as watched:
        for text in ("one", "two", "three"):
            (directory / "swap").write_text(text)
            (directory / "swap").rename(directory / "a.yaml")
            await until(directory / "a.yaml", text, watched)


async def test_a_file_that_is_removed_and_comes_back(directory: Path) -> None:
    async with watching(directory / "a.yaml") as watched:
        (directory / "a.yaml").unlink()
        await until(directory / "a.yaml", None, watched)
        (directory / "a.yaml").write_text("back")
        await until(directory / "a.yaml", "back", watched)


async def test_a_link_that_is_moved_as_kubernetes_does(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(name)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "a.yaml").symlink_to("data/a.yaml")
    async with watching(tmp_path / "a.yaml") as watched:
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").rename(tmp_path / "data")
        await until(tmp_path / "a.yaml", "two", watched)


async def test_an_edit_while_the_consumer_is_busy_is_not_missed(directory: Path) -> None:
    watched = edits([directory])
    await anext(watched)
    (directory / "a.yaml").write_text("before the first wait")
    await anext(watched)
    (directory / "b.yaml").write_text("between two waits")
    await anext(watched)
    await watched.aclose()


async def test_files_that_are_none_of_ours_wake_nobody(directory: Path) -> None:
    async with watching(directory / "a.yaml", directory) as watched:
        waiting = asyncio.ensure_future(anext(watched))
        for i in range(50):
            (directory / f"log{i}").write_text("x")
        (directory / "a.yaml").write_text("ours")
        await waiting
        assert (directory / "a.yaml").read_text() == "ours"
        assert (directory / "log49").exists()
