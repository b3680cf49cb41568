"""Route conditions as Envoy's RouteMatch."""

from __future__ import annotations

from typing import Any

from tulle.model.matching import (
    ClaimMatch,
    HeaderMatch,
    MatchKind,
    PathKind,
    PathMatch,
    QueryMatch,
    RouteMatch,
    StringMatch,
)
from tulle.xds.filters import jwt


def route_match(match: RouteMatch | None) -> dict[str, Any]:
    """The RouteMatch of one alternative; None matches everything."""
    if match is None:
        return {"prefix": "/"}
    made = _path(match.path)
    headers = [
        _header(HeaderMatch(name, condition))
        for name, condition in (
            (":method", match.method),
            (":authority", match.authority),
            (":scheme", match.scheme),
        )
        if condition is not None
    ]
    headers += [_header(each) for each in match.headers]
    if headers:
        made["headers"] = headers
    if match.query:
        made["query_parameters"] = [_query(each) for each in match.query]
    if match.claims:
        made["dynamic_metadata"] = [_claim(each) for each in match.claims]
    return made


def _claim(claim: ClaimMatch) -> dict[str, Any]:
    if claim.match is None:
        wanted: dict[str, Any] = {"present_match": True}
    else:
        wanted = {"string_match": string_matcher(claim.match)}
    return {**jwt.claim(claim.path, wanted), **({"invert": True} if claim.inverted else {})}


def string_matcher(match: StringMatch) -> dict[str, Any]:
    """A StringMatcher. Envoy cannot ignore case in regexes by the flag, so the expression itself says it."""
    if match.kind is MatchKind.REGEX:
        return {"safe_regex": _regex(match.value, match)}
    made: dict[str, Any] = {match.kind.value: match.value}
    if match.ignore_case:
        made["ignore_case"] = True
    return made


def _regex(value: str, match: StringMatch | PathMatch) -> dict[str, str]:
    return {"regex": f"(?i){value}" if match.ignore_case else value}


def _path(path: PathMatch | None) -> dict[str, Any]:
    if path is None:
        return {"prefix": "/"}
    if path.kind is PathKind.REGEX:
        return {"safe_regex": _regex(path.value, path)}
    made: dict[str, Any] = {}
    if path.kind is PathKind.EXACT:
        made["path"] = path.value
    elif path.kind is PathKind.SEGMENTS and path.value.rstrip("/"):
        made["path_separated_prefix"] = path.value.rstrip("/")
    else:
        made["prefix"] = path.value
    if path.ignore_case:
        made["case_sensitive"] = {"value": False}
    return made


def _header(header: HeaderMatch) -> dict[str, Any]:
    made: dict[str, Any] = {"name": header.name}
    if header.match is None:
        made["present_match"] = True
    elif (
        header.match.kind in (MatchKind.PREFIX, MatchKind.SUFFIX, MatchKind.CONTAINS)
        and not header.match.value
    ):
        made["present_match"] = True  # Envoy refuses an empty prefix; every value has it
    else:
        made["string_match"] = string_matcher(header.match)
    if header.inverted:
        made["invert_match"] = True
        # without the header the condition "not this value" holds; Envoy would otherwise not look at it
        if "string_match" in made:
            made["treat_missing_header_as_empty"] = True
    return made


def _query(query: QueryMatch) -> dict[str, Any]:
    if query.match is None:
        return {"name": query.name, "present_match": True}
    return {"name": query.name, "string_match": string_matcher(query.match)}
