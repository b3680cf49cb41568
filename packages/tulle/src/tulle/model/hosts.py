"""Host patterns: which names an exact host, `*.suffix` or `*` covers."""

from __future__ import annotations

from collections.abc import Iterator


def pattern_covers(pattern: str, host: str) -> bool:
    """Whether `pattern` (exact, `*.suffix` or `*`) covers `host`, which may itself be a pattern."""
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return host.endswith(pattern[1:]) and len(host) >= len(pattern)
    return pattern == host


def patterns_of(host: str) -> Iterator[str]:
    """The host itself and every pattern that covers it, most specific first."""
    yield host
    rest = host
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"
    yield "*"
