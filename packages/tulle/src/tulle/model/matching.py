"""Conditions on a request: strings, headers, paths and everything a route match can ask for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulle.model.meta import Labels
from tulle.model.source import SourceRef


class MatchKind(StrEnum):
    """How a value is compared. REGEX is RE2 syntax and must match the whole value."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class StringMatch:
    kind: MatchKind
    value: str
    ignore_case: bool = False


class PathKind(StrEnum):
    """PREFIX is textual, as in Istio (`/a` matches `/ab`); SEGMENTS whole segments, as in the Gateway API."""

    EXACT = "exact"
    PREFIX = "prefix"
    SEGMENTS = "segments"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A condition on the path without its query."""

    kind: PathKind
    value: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """`match` None asks for presence only; `inverted` negates the whole condition (withoutHeaders)."""

    name: str
    match: StringMatch | None = None
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class QueryMatch:
    """`match` None asks for presence only."""

    name: str
    match: StringMatch | None = None


@dataclass(frozen=True, slots=True)
class ClaimMatch:
    """On a claim of a token that the routing proxy has verified, by its path; one string, or a list with one such.

    `match` None asks for presence only; without a good token there is no claim.
    """

    path: tuple[str, ...]
    match: StringMatch | None = None
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """One alternative of a rule: every condition given must hold; none given matches every request.

    `port` is the port of the service that was addressed. `source_labels` and `source_namespace` restrict
    the calling workload; `gateways` (empty: those of the rule's `RouteSet`) where the match applies.
    """

    source: SourceRef
    name: str = ""
    path: PathMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    headers: tuple[HeaderMatch, ...] = ()
    query: tuple[QueryMatch, ...] = ()
    claims: tuple[ClaimMatch, ...] = ()
    port: int | None = None
    source_labels: Labels = ()
    source_namespace: str | None = None
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionMatch:
    """One alternative of a TCP or TLS rule: SNI names (exact or `*.suffix`), port, caller."""

    source: SourceRef
    sni_hosts: tuple[str, ...] = ()
    destination_subnets: tuple[str, ...] = ()
    port: int | None = None
    source_labels: Labels = ()
    source_namespace: str | None = None
    gateways: tuple[str, ...] = ()
