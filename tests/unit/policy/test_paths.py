"""Paths are read as sidecars forward them; done twice it changes nothing more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.model.settings import PathNormalization
from tulle.policy.paths import canonical

BASE, MERGE, DECODE = (
    PathNormalization.BASE,
    PathNormalization.MERGE_SLASHES,
    PathNormalization.DECODE_AND_MERGE_SLASHES,
)


@pytest.mark.parametrize(
    ("level", "asked", "read"),
    [
        (PathNormalization.NONE, "/a/../b", "/a/../b"),
        (BASE, "/a/../b", "/b"),
        (BASE, "/a/%2e%2e/%62", "/b"),
        (BASE, "/a/..", "/"),
        (BASE, "/a/b/.", "/a/b/"),
        (BASE, "/../../a", "/a"),
        (BASE, "/a\\..\\b", "/b"),
        (BASE, "/a//b", "/a//b"),
        (BASE, "/a%2Fb", "/a%2Fb"),
        (BASE, "*", "*"),
        (MERGE, "/a///b", "/a/b"),
        (MERGE, "/a%2F/b", "/a%2F/b"),
        (DECODE, "/a%2f%5C../b", "/a/b"),
    ],
)
def test_levels(level: PathNormalization, asked: str, read: str) -> None:
    assert canonical(level, asked) == read


@given(st.sampled_from((BASE, MERGE)), st.text("/.a%2eE\\", max_size=12).map(lambda text: f"/{text}"))
def test_no_dot_segment_is_left_and_once_is_enough(level: PathNormalization, path: str) -> None:
    once = canonical(level, path)
    assert not {".", ".."}.intersection(once.split("/"))
    if "%" not in once:
        assert canonical(level, once) == once
