"""When one route match makes another unreachable, and which of two is more specific."""

from __future__ import annotations

from tulle.model.matching import MatchKind, PathKind, PathMatch, RouteMatch
from tulle.model.mesh import BoundRule
from tulle.model.source import SourceRef


def is_catch_all(match: RouteMatch) -> bool:
    """Whether the match holds for every request of every caller, on every port."""
    return covers(match, ANY)


ANY = RouteMatch(SourceRef(""))


def covers(earlier: RouteMatch, later: RouteMatch) -> bool:
    """Whether every request that `later` matches also matches `earlier` (false when it cannot be told)."""
    return (
        _path_covers(earlier.path, later.path)
        and all(
            a is None or a == b
            for a, b in (
                (earlier.method, later.method),
                (earlier.authority, later.authority),
                (earlier.scheme, later.scheme),
                (earlier.port, later.port),
                (earlier.source_namespace, later.source_namespace),
            )
        )
        and set(earlier.headers) <= set(later.headers)
        and set(earlier.query) <= set(later.query)
        and set(earlier.claims) <= set(later.claims)
        and set(earlier.source_labels) <= set(later.source_labels)
        and (not earlier.gateways or (bool(later.gateways) and set(later.gateways) <= set(earlier.gateways)))
    )


def _path_covers(earlier: PathMatch | None, later: PathMatch | None) -> bool:
    if earlier is None or (earlier.kind in (PathKind.PREFIX, PathKind.SEGMENTS) and earlier.value == "/"):
        return True
    if later is None:
        return False
    if earlier == later:
        return True
    if earlier.kind is not PathKind.PREFIX or later.kind is PathKind.REGEX:
        return False
    if earlier.ignore_case:
        return later.value.lower().startswith(earlier.value.lower())
    return not later.ignore_case and later.value.startswith(earlier.value)


def rule_covers(earlier: BoundRule, later: BoundRule) -> bool:
    """Whether no request reaches `later` because of `earlier`."""
    if earlier.ports and not (later.ports and set(later.ports) <= set(earlier.ports)):
        return False
    if not earlier.visibility.public and earlier.visibility != later.visibility:
        return False
    if not set(later.gateways) <= set(earlier.gateways):
        return False
    firsts = earlier.rule.matches or (ANY,)
    return all(any(covers(first, match) for first in firsts) for match in later.rule.matches or (ANY,))


_PATH_RANK = {PathKind.EXACT: 3, PathKind.REGEX: 2, PathKind.SEGMENTS: 1, PathKind.PREFIX: 1}


def specificity(match: RouteMatch) -> tuple[int, int, int, int, int]:
    """Gateway API's order, larger first: exact path, longest prefix, method, headers, query parameters."""
    path = match.path
    exact_method = match.method is not None and match.method.kind is MatchKind.EXACT
    return (
        0 if path is None else _PATH_RANK[path.kind],
        0 if path is None else len(path.value),
        int(exact_method),
        len(match.headers),
        len(match.query),
    )
