"""Lowers VirtualService matches: HTTP requests, TCP and TLS connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tulle.dialects.findings import Findings
from tulle.dialects.istio.schema import virtual_service as schema
from tulle.dialects.istio.schema.common import StringMatch as StringMatchSchema
from tulle.dialects.istio.schema.common import claim_path
from tulle.model.matching import (
    ClaimMatch,
    ConnectionMatch,
    HeaderMatch,
    MatchKind,
    PathKind,
    PathMatch,
    QueryMatch,
    RouteMatch,
    StringMatch,
)
from tulle.model.meta import labels
from tulle.model.routes import MESH_GATEWAY
from tulle.objects import Path

OWN_FIELDS = frozenset({"uri", "scheme", "method", "authority"})
"""Names that Istio ignores as keys of ``headers``: a match has fields of their own for them."""


def route_match(written: schema.HttpMatchRequest, path: Path, findings: Findings) -> RouteMatch:
    """One alternative of an HTTP rule."""
    headers = _headers(written.headers, (*path, "headers"), findings, inverted=False)
    without = _headers(written.without_headers, (*path, "withoutHeaders"), findings, inverted=True)
    if written.ignore_uri_case and (written.uri is None or written.uri.regex is not None):
        message = "ignoreUriCase applies to an exact or prefix uri only"
        findings.warning("no-effect", message, (*path, "ignoreUriCase"), "(?i) starts such a regex")
    return RouteMatch(
        source=findings.place(path),
        name=written.name,
        path=_path(written),
        method=string_match(written.method),
        authority=string_match(written.authority),
        scheme=string_match(written.scheme),
        headers=(*headers, *without),
        claims=(*_claims(written.headers), *_claims(written.without_headers, inverted=True)),
        query=tuple(
            QueryMatch(name, string_match(match)) for name, match in sorted(written.query_params.items())
        ),
        port=written.port,
        source_labels=labels(written.source_labels),
        source_namespace=written.source_namespace or None,
        gateways=gateway_names(written.gateways, findings),
    )


def connection_match(
    written: schema.L4Match | schema.TlsMatch, path: Path, findings: Findings
) -> ConnectionMatch:
    """One alternative of a TCP or TLS rule."""
    return ConnectionMatch(
        source=findings.place(path),
        sni_hosts=tuple(written.sni_hosts) if isinstance(written, schema.TlsMatch) else (),
        destination_subnets=tuple(written.destination_subnets),
        port=written.port,
        source_labels=labels(written.source_labels),
        source_namespace=written.source_namespace or None,
        gateways=gateway_names(written.gateways, findings),
    )


def gateway_names(names: list[str], findings: Findings) -> tuple[str, ...]:
    """``mesh`` as it is; anything else as ``namespace/name``, by default of the object's namespace."""
    own = findings.obj.namespace
    return tuple(name if name == MESH_GATEWAY or "/" in name else f"{own}/{name}" for name in names)


def string_match(written: StringMatchSchema | None) -> StringMatch | None:
    """None for no condition beyond presence."""
    if written is None:
        return None
    if written.exact is not None:
        return StringMatch(MatchKind.EXACT, written.exact)
    if written.prefix is not None:
        return StringMatch(MatchKind.PREFIX, written.prefix) if written.prefix else None
    if written.regex is not None:
        return StringMatch(MatchKind.REGEX, written.regex)
    return None


def _path(written: schema.HttpMatchRequest) -> PathMatch | None:
    uri = written.uri
    if uri is None:
        return None
    if uri.exact is not None:
        return PathMatch(PathKind.EXACT, uri.exact, written.ignore_uri_case)
    if uri.prefix is not None:
        return PathMatch(PathKind.PREFIX, uri.prefix, written.ignore_uri_case)
    if uri.regex is not None:
        return PathMatch(PathKind.REGEX, uri.regex)
    return None


def _claims(written: Mapping[str, StringMatchSchema], *, inverted: bool = False) -> Iterator[ClaimMatch]:
    for name, match in sorted(written.items()):
        path = claim_path(name)
        if path is not None:
            yield ClaimMatch(path, string_match(match), inverted)


def _headers(
    written: Mapping[str, StringMatchSchema], path: Path, findings: Findings, *, inverted: bool
) -> list[HeaderMatch]:
    matches = []
    for name, match in sorted(written.items()):
        if claim_path(name) is not None:
            continue
        if name in OWN_FIELDS:
            message = f"'{name}' as a header is ignored, as Istio does; the match has a field '{name}'"
            findings.warning("no-effect", message, (*path, name))
            continue
        matches.append(HeaderMatch(name.lower(), string_match(match), inverted))
    return matches
