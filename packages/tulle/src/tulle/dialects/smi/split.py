"""Lowers a TrafficSplit to routes of its service."""

from __future__ import annotations

from tulle.dialects.base import Lowered
from tulle.dialects.findings import Findings, meta_of
from tulle.dialects.smi import schema
from tulle.dialects.validate import validate
from tulle.model.access import OperationsRef
from tulle.model.routes import ConnectionRule, Destination, Forward, HttpRule, RouteSet
from tulle.objects import Path, RawObject

MAX_WEIGHTS = 2**32 - 1
"""What the weights of one route may add up to (Envoy)."""


def traffic_split(obj: RawObject) -> Lowered:
    """TrafficSplit → RouteSet. With matches, what they do not match goes to the service itself."""
    findings = Findings(obj)
    parsed = validate(schema.TrafficSplit, findings)
    if parsed is None:
        return findings.lowered(())
    spec = parsed.spec
    place = findings.place(("spec",))
    destinations = _destinations(spec, findings)
    groups = tuple(
        OperationsRef(findings.place(("spec", "matches", index)), each.kind, obj.namespace, each.name)
        for index, each in enumerate(spec.matches)
    )
    http = [HttpRule(place, Forward(destinations), matched_by=groups)]
    tcp: tuple[ConnectionRule, ...] = (ConnectionRule(place, destinations),)
    if groups:
        itself = Destination(findings.place(("spec", "service")), spec.service)
        http.append(HttpRule(place, Forward((itself,))))
        tcp = ()
    return findings.lowered((RouteSet(meta_of(obj), (spec.service,), http=tuple(http), tcp=tcp),))


def _destinations(spec: schema.TrafficSplitSpec, findings: Findings) -> tuple[Destination, ...]:
    path: Path = ("spec", "backends")
    weights = [schema.thousandths(each.weight) for each in spec.backends]
    whole = all(weight % 1000 == 0 for weight in weights)
    weights = [weight // 1000 for weight in weights] if whole else weights
    if sum(weights) == 0:
        message = "the weights of all backends are 0: nobody would get the traffic"
        findings.error("weights", message, path, "weights are ratios; give at least one backend a weight")
    if sum(weights) > MAX_WEIGHTS:
        findings.error("weights", f"the weights add up to more than {MAX_WEIGHTS}", path)
    return tuple(
        Destination(findings.place((*path, index, "service")), each.service, weight=weight)
        for index, (each, weight) in enumerate(zip(spec.backends, weights, strict=True))
    )
