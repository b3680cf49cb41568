"""Lowers what several parts of a VirtualService share: destinations, headers, percentages."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.dialects.findings import Findings
from tulle.dialects.istio.schema import virtual_service as schema
from tulle.dialects.istio.schema.common import Destination as DestinationSchema
from tulle.dialects.istio.schema.common import Percent as PercentSchema
from tulle.model.routes import Destination, HeaderOps, HeaderRules, HeaderValue, Percent
from tulle.objects import Path

AUTHORITY_HEADERS = frozenset({"host", ":authority"})

ALL = Percent.of(100)


def destinations(
    routes: Sequence[schema.HttpRouteDestination | schema.RouteDestination], path: Path, findings: Findings
) -> tuple[Destination, ...]:
    """Weighted destinations. A single one gets everything, whatever its weight; among several, one without
    weight gets nothing.
    """
    single = len(routes) == 1
    if not single and routes and not any(route.weight for route in routes):
        message = "the weights of several destinations must not all be 0"
        findings.error("weights", message, path, "weights are ratios; give at least one destination a weight")
    if sum(route.weight or 0 for route in routes) > 2**32 - 1:
        findings.error("weights", "the weights add up to more than 4294967295", path)
    lowered = []
    for index, route in enumerate(routes):
        at = (*path, index)
        if not single and route.weight is None:
            message = "a destination without weight among several gets no traffic"
            findings.warning("weights", message, at, "weight: 0 says so")
        weight = 1 if single else route.weight or 0
        rules = HeaderRules()
        if isinstance(route, schema.HttpRouteDestination):
            rules = _backend_headers(route, at, findings)
        lowered.append(destination(route.destination, (*at, "destination"), findings, weight, rules))
    return tuple(lowered)


def destination(
    written: DestinationSchema,
    path: Path,
    findings: Findings,
    weight: int = 1,
    headers: HeaderRules = HeaderRules(),  # noqa: B008  (frozen)
) -> Destination:
    """One destination; its place is that of the mapping, so that a wrong host or subset is found in it."""
    return Destination(
        source=findings.place((*path, "subset") if written.subset else (*path, "host")),
        host=written.host,
        port=written.port.number if written.port else None,
        subset=written.subset,
        weight=weight,
        headers=headers,
    )


def header_rules(written: schema.Headers) -> HeaderRules:
    """Header changes, those of Host aside (see :func:`authority_of`)."""
    return HeaderRules(_ops(written.request), _ops(written.response))


def authority_of(written: schema.Headers) -> str | None:
    """The authority that ``headers.request.set`` asks for, which Istio takes as a rewrite."""
    for name, value in written.request.set.items():
        if name.lower() in AUTHORITY_HEADERS:
            return value
    return None


def percent(
    exact: PercentSchema | None, legacy: int | None, default: Percent, path: Path, findings: Findings
) -> Percent:
    """``percentage``, or the deprecated integer at ``path``."""
    if legacy is not None:
        field = path[-1]
        instead = {"mirrorPercent": "mirrorPercentage"}.get(str(field), "percentage")
        message = f"{field} is deprecated" + ("" if exact is None else f" and {instead} wins")
        findings.warning("deprecated", message, path, f"write {instead}: {{value: {legacy}}}")
    if exact is not None:
        return Percent.of(exact.value)
    return default if legacy is None else Percent.of(legacy)


def _ops(written: schema.HeaderOperations) -> HeaderOps:
    return HeaderOps(
        set=tuple(
            HeaderValue(name, value)
            for name, value in sorted(written.set.items())
            if name.lower() not in AUTHORITY_HEADERS
        ),
        add=tuple(HeaderValue(name, value) for name, value in sorted(written.add.items())),
        remove=tuple(written.remove),
    )


def _backend_headers(route: schema.HttpRouteDestination, path: Path, findings: Findings) -> HeaderRules:
    if authority_of(route.headers) is not None:
        message = "setting Host for one destination is not supported yet and has no effect"
        findings.warning("unsupported", message, (*path, "headers", "request", "set"), "set it for the route")
    return header_rules(route.headers)
