"""Host patterns."""

from __future__ import annotations

import pytest

from tulle.model.hosts import pattern_covers, patterns_of


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("*", "a.b", True),
        ("*.b.c", "a.b.c", True),
        ("*.b.c", "b.c", False),
        ("*.b.c", "*.a.b.c", True),
        ("a.b", "a.b", True),
        ("a.b", "x.a.b", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, host: str, covered: bool) -> None:
    assert pattern_covers(pattern, host) is covered


def test_patterns_of_a_host_most_specific_first() -> None:
    assert list(patterns_of("a.b.c")) == ["a.b.c", "*.b.c", "*.c", "*"]
