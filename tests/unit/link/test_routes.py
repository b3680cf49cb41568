"""Attachment, merging and checking of routes."""

from __future__ import annotations

import pytest
from mesh_builders import BACKEND, at, canary, codes, linked, policy, routes, rule, service, to, when_header

from tulle.link.hosts import Hosts
from tulle.model.matching import MatchKind, PathKind, PathMatch, RouteMatch, StringMatch
from tulle.model.routes import Forward, Precedence


def subsets_in_order(found) -> list[tuple[str | None, ...]]:
    rules = found.mesh.routes[BACKEND].http
    return [tuple(each.subset for each in bound.rule.action.destinations) for bound in rules]


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("backend", "backend.shop.svc.cluster.local"),
        ("backend.default", BACKEND),
        ("backend.default.svc", BACKEND),
        ("Backend.default.svc.cluster.local.", BACKEND),
        ("api.example.com", "api.example.com"),
        ("*.example.com", "*.example.com"),
    ],
)
def test_hosts_are_resolved_as_in_istio(written: str, means: str) -> None:
    assert Hosts({BACKEND}, "cluster.local").resolve(written, "shop") == means


def test_destinations_get_full_hosts_and_the_only_port() -> None:
    found = linked([service(), routes(rule(to(port=None)))])
    action = found.mesh.routes[BACKEND].http[0].rule.action
    assert isinstance(action, Forward)
    assert (action.destinations[0].host, action.destinations[0].port) == (BACKEND, 9001)


def test_several_sets_merge_oldest_first_with_defaults_last() -> None:
    special = rule(to(subset="v2"), matches=(when_header("x", "1"),))
    fragments = [
        service(),
        policy(None, "v1", "v2"),
        routes(special, name="younger", created=2),
        routes(rule(to(subset="v1")), name="older", created=1),
    ]
    found = linked(fragments)
    assert subsets_in_order(found) == [("v2",), ("v1",)]
    merged = [each for each in found.diagnostics if each.code == "routes-merged"]
    assert [(each.source.line, each.related[0].line) for each in merged] == [(102, 101)]


def test_a_second_default_is_reported_unreachable_with_both_places() -> None:
    fragments = [service(), routes(rule(to(), line=7)), routes(rule(to(), line=9), name="later", created=1)]
    found = [each for each in linked(fragments).diagnostics if each.code == "rule-unreachable"]
    assert [(each.source.line, each.related[0].line) for each in found] == [(9, 7)]


@pytest.mark.parametrize(
    ("earlier", "later", "dead"),
    [
        (PathMatch(PathKind.PREFIX, "/a"), PathMatch(PathKind.EXACT, "/ab"), True),
        (PathMatch(PathKind.EXACT, "/a"), PathMatch(PathKind.PREFIX, "/a"), False),
        (PathMatch(PathKind.SEGMENTS, "/a"), PathMatch(PathKind.SEGMENTS, "/ab"), False),
        (PathMatch(PathKind.PREFIX, "/a"), PathMatch(PathKind.PREFIX, "/AB", ignore_case=True), False),
        (PathMatch(PathKind.PREFIX, "/"), None, True),
    ],
)
def test_shadowing_is_claimed_only_when_certain(
    earlier: PathMatch, later: PathMatch | None, dead: bool
) -> None:
    fragments = [
        service(),
        routes(
            rule(to(), matches=(RouteMatch(at(), path=earlier),)),
            rule(to(), matches=(RouteMatch(at(), path=later),), line=2),
        ),
    ]
    assert ("rule-unreachable" in codes(linked(fragments))) is dead


def test_unknown_references_are_warned_about_with_a_hint() -> None:
    fragments = [
        service(),
        policy(None, "v1"),
        routes(rule(to("bakend")), rule(to(subset="v3")), rule(to(port=1)), rule(to(weight=0))),
    ]
    found = {each.code: each for each in linked(fragments).diagnostics}
    assert found["unknown-host"].hint == f"did you mean {BACKEND}?"
    assert found["unknown-subset"].hint == "its subsets are v1"
    assert found["unknown-port"].hint == "its ports are 9001"
    assert "weights-zero" in found


def test_a_clean_configuration_has_no_findings() -> None:
    assert codes(linked(canary())) == []


def test_gateway_precedence_sorts_by_specificity() -> None:
    def match(path: PathMatch | None = None, method: str | None = None) -> RouteMatch:
        said = None if method is None else StringMatch(MatchKind.EXACT, method)
        return RouteMatch(at(), path=path, method=said)

    every = [
        match(),
        match(PathMatch(PathKind.SEGMENTS, "/a")),
        match(PathMatch(PathKind.SEGMENTS, "/a/b")),
        match(PathMatch(PathKind.SEGMENTS, "/a/b"), "GET"),
        match(PathMatch(PathKind.EXACT, "/a")),
    ]
    route_set = routes(rule(to(), matches=tuple(every)), precedence=Precedence.MOST_SPECIFIC)
    ordered = [bound.rule.matches[0] for bound in linked([service(), route_set]).mesh.routes[BACKEND].http]
    assert ordered == [every[4], every[3], every[2], every[1], every[0]]
