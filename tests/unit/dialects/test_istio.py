"""Istio's kinds: documented defaults, legacy names, and what they are lowered to."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

import pytest

from tulle.dialects import Lowered, lower
from tulle.link import link
from tulle.model.matching import HeaderMatch, MatchKind, PathKind, StringMatch
from tulle.model.policies import (
    Balancing,
    ConsistentHash,
    DestinationPolicy,
    HashAlgorithm,
    HashCookie,
    HashHeader,
    TlsMode,
)
from tulle.model.routes import DirectResponse, Forward, Percent, Redirect, RetryOn, RouteSet
from tulle.model.services import Resolution, Service
from tulle.model.workloads import SidecarMode, Workload
from tulle.sources.yaml_reader import read_yaml

_F = TypeVar("_F")


def _lower(kind: str, spec: str, version: str = "v1") -> Lowered:
    text = (
        f"apiVersion: networking.istio.io/{version}\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}\n"
    )
    (obj,), diagnostics = read_yaml(f"{text}spec: {spec}\n", "x.yaml")
    assert diagnostics == ()
    return lower(obj)


def _one(lowered: Lowered, kind: type[_F]) -> _F:
    assert not lowered.has_errors, lowered.diagnostics
    (fragment,) = lowered.fragments
    assert isinstance(fragment, kind)
    return fragment


def _rule(rule: str) -> Lowered:
    return _lower("VirtualService", f"{{hosts: [reviews], http: [{rule}]}}")


ROUTE = "route: [{destination: {host: reviews}}]"


def _codes(lowered: Lowered) -> list[str]:
    return [each.code for each in lowered.diagnostics]


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_versions_mean_the_same(version: str) -> None:
    routes = _one(_lower("VirtualService", f"{{hosts: [a], http: [{{{ROUTE}}}]}}", version), RouteSet)
    assert routes.hosts == ("a",)
    assert routes.gateways == ("mesh",)
    assert routes.visibility.public


def test_defaults_of_a_rule() -> None:
    (rule,) = _one(_rule(f"{{{ROUTE}}}"), RouteSet).http
    assert (rule.timeout, rule.retry, rule.fault, rule.rewrite, rule.mirrors) == (None, None, None, None, ())
    assert isinstance(rule.action, Forward)
    assert [each.weight for each in rule.action.destinations] == [1]


def test_gateways_are_qualified_by_namespace() -> None:
    spec = f"{{hosts: [a], gateways: [mesh, edge, infra/edge], http: [{{{ROUTE}}}]}}"
    assert _one(_lower("VirtualService", spec), RouteSet).gateways == ("mesh", "shop/edge", "infra/edge")


def test_matches() -> None:
    match = (
        "{uri: {prefix: /a}, ignoreUriCase: true, method: {exact: GET}, headers: {X-A: {prefix: b}, x-p: {}},"
        " withoutHeaders: {x-w: {regex: c+}}, queryParams: {q: {exact: '1'}}, port: 80,"
        " sourceLabels: {app: x}, sourceNamespace: other, gateways: [g]}"
    )
    (found,) = _one(_rule(f"{{match: [{match}], {ROUTE}}}"), RouteSet).http[0].matches
    assert found.path is not None
    assert (found.path.kind, found.path.value, found.path.ignore_case) == (PathKind.PREFIX, "/a", True)
    assert found.method == StringMatch(MatchKind.EXACT, "GET")
    assert found.headers == (
        HeaderMatch("x-a", StringMatch(MatchKind.PREFIX, "b")),
        HeaderMatch("x-p", None),
        HeaderMatch("x-w", StringMatch(MatchKind.REGEX, "c+"), inverted=True),
    )
    assert [(each.name, each.match) for each in found.query] == [("q", StringMatch(MatchKind.EXACT, "1"))]
    assert (found.port, found.source_labels, found.source_namespace) == (80, (("app", "x"),), "other")
    assert found.gateways == ("shop/g",)


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("{uri: /b}", Redirect(path="/b")),
        ("{authority: x, redirectCode: 308}", Redirect(status=308, authority="x")),
        ("{uri: '%PREFIX()%/b'}", Redirect(prefix="/b")),
        ("{scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}", Redirect(scheme="https", scheme_port=True)),
        ("{scheme: https, derivePort: FROM_REQUEST_PORT}", Redirect(scheme="https")),
        ("{port: 8443}", Redirect(port=8443)),
    ],
)
def test_redirects(redirect: str, expected: Redirect) -> None:
    assert _one(_rule(f"{{redirect: {redirect}}}"), RouteSet).http[0].action == expected


def test_direct_responses() -> None:
    rules = [
        _one(_rule(f"{{directResponse: {{status: 418{body}}}}}"), RouteSet).http[0].action
        for body in ("", ", body: {string: hé}", ", body: {bytes: aGk=}")
    ]
    assert rules == [
        DirectResponse(418), DirectResponse(418, "hé".encode()), DirectResponse(418, b"hi"),
    ]  # fmt: skip


def test_retries_count_retries_and_status_codes_imply_their_condition() -> None:
    retries = "{attempts: 2, retryOn: 'connect-failure, 429,unavailable', retryIgnorePreviousHosts: false}"
    retry = _one(_rule(f"{{retries: {retries}, {ROUTE}}}"), RouteSet).http[0].retry
    assert retry is not None
    assert retry.attempts == 2
    assert retry.on == (RetryOn.CONNECT_FAILURE, RetryOn.GRPC_UNAVAILABLE, RetryOn.RETRIABLE_STATUS_CODES)
    assert retry.status_codes == (429,)
    assert retry.keep_previous_hosts


@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        ("{retries: {attempts: 3, retryOn: 5xx}", ["retries-unsafe-methods"]),
        ("{retries: {attempts: 3, retryOn: 5xx}, match: [{method: {exact: GET}}]", []),
        ("{retries: {attempts: 3, retryOn: 5xx}, match: [{method: {exact: GET}}, {}]", ["retries-unsafe-methods"]),
        ("{retries: {attempts: 3, retryOn: 'connect-failure,refused-stream'}", []),
        ("{retries: {attempts: 0, retryOn: 5xx}", ["no-effect"]),
        ("{timeout: 1s, retries: {attempts: 1, perTryTimeout: 2s}", ["timeout-order"]),
        ("{timeout: 3s, retries: {attempts: 1, perTryTimeout: 2s}", ["timeout-order"]),
        ("{timeout: 4s, retries: {attempts: 1, perTryTimeout: 2s}", []),
        ("{mirrorPercentage: {value: 1}", ["no-effect"]),
        ("{fault: {delay: {fixedDelay: 1s, percent: 5}}", ["deprecated"]),
        ("{match: [{headers: {uri: {exact: a}}}]", ["no-effect"]),
        ("{match: [{uri: {regex: a}, ignoreUriCase: true}]", ["no-effect"]),
    ],
)  # fmt: skip
def test_warnings(rule: str, codes: list[str]) -> None:
    lowered = _rule(f"{rule}, {ROUTE}}}")
    assert not lowered.has_errors
    assert _codes(lowered) == codes


def test_faults_without_percentage_never_happen() -> None:
    fault = _one(_rule(f"{{fault: {{abort: {{grpcStatus: unavailable}}}}, {ROUTE}}}"), RouteSet).http[0].fault
    assert fault is not None
    assert fault.abort is not None
    assert (fault.abort.percent, fault.abort.grpc_status) == (Percent(0), 14)


def test_weights() -> None:
    two = "route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 3}]"
    action = _one(_rule(f"{{{two}}}"), RouteSet).http[0].action
    assert isinstance(action, Forward)
    assert [each.weight for each in action.destinations] == [0, 3]
    none = _rule("{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}, weight: 0}]}")
    assert "weights" in _codes(none)
    assert none.has_errors
    over = _rule("{route: [" + ", ".join(["{destination: {host: a}, weight: 2147483647}"] * 3) + "]}")
    assert "weights" in _codes(over)
    assert over.has_errors


def test_host_header_that_is_set_is_an_authority_rewrite() -> None:
    (rule,) = _one(_rule(f"{{headers: {{request: {{set: {{Host: x, a: b}}}}}}, {ROUTE}}}"), RouteSet).http
    assert rule.rewrite is not None
    assert rule.rewrite.authority == "x"
    assert [each.name for each in rule.headers.request.set] == ["a"]


def _policy(traffic: str) -> Lowered:
    return _lower("DestinationRule", f"{{host: reviews, trafficPolicy: {traffic}}}")


def test_legacy_consecutive_errors_count_gateway_errors_and_warn() -> None:
    lowered = _policy("{outlierDetection: {consecutiveErrors: 5}}")
    outlier = _one(lowered, DestinationPolicy).policy.outlier
    assert outlier is not None
    assert (outlier.consecutive_gateway_errors, outlier.consecutive_5xx) == (5, None)
    assert _codes(lowered) == ["deprecated"]


def test_newer_outlier_fields_win_over_the_legacy_one() -> None:
    lowered = _policy("{outlierDetection: {consecutiveErrors: 5, consecutive5xxErrors: 7}}")
    outlier = _one(lowered, DestinationPolicy).policy.outlier
    assert outlier is not None
    assert (outlier.consecutive_gateway_errors, outlier.consecutive_5xx) == (None, 7)


def test_min_health_percent_is_the_panic_threshold() -> None:
    lowered = _policy("{outlierDetection: {minHealthPercent: 50}}")
    outlier = _one(lowered, DestinationPolicy).policy.outlier
    assert outlier is not None
    assert outlier.min_health_percent == 50
    assert _codes(lowered) == ["panic-threshold"]


@pytest.mark.parametrize(
    ("written", "method"),
    [
        ("{simple: ROUND_ROBIN}", Balancing.ROUND_ROBIN),
        ("{simple: LEAST_CONN}", Balancing.LEAST_REQUEST),
        ("{simple: UNSPECIFIED}", Balancing.LEAST_REQUEST),
        ("{consistentHash: {httpHeaderName: User-Id, minimumRingSize: 1024}}",
         ConsistentHash((HashHeader("user-id"),), HashAlgorithm.RING_HASH, 1024)),
        ("{consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {tableSize: 65537}}}",
         ConsistentHash((HashCookie("c", None, timedelta()),), HashAlgorithm.MAGLEV, 65537)),
    ],
)  # fmt: skip
def test_balancers(written: str, method: object) -> None:
    balancer = _one(_policy(f"{{loadBalancer: {written}}}"), DestinationPolicy).policy.load_balancer
    assert balancer is not None
    assert balancer.method == method


@pytest.mark.parametrize(
    "traffic",
    [
        "{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}",
        "{loadBalancer: {consistentHash: {}}}",
        "{loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}",
        "{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 8}}}}",
        "{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}}}",
        "{portLevelSettings: [{port: {number: 80}}, {port: {number: 80}}]}",
        "{tls: {mode: MUTUAL}}",
    ],
)
def test_contradictions_in_policies_are_errors(traffic: str) -> None:
    assert _policy(traffic).has_errors


def test_port_settings_and_subsets() -> None:
    spec = (
        "{host: reviews, exportTo: ['.'], workloadSelector: {matchLabels: {app: x}}, trafficPolicy: {"
        "tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]},"
        " subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]}"
    )
    policy = _one(_lower("DestinationRule", spec), DestinationPolicy)
    assert policy.visibility.namespaces == ("shop",)
    assert not policy.visibility.public
    assert policy.workload_selector == (("app", "x"),)
    assert policy.policy.tls is not None
    assert policy.policy.tls.mode is TlsMode.ISTIO_MUTUAL
    ((port, settings),) = [(each.port, each.policy) for each in policy.policy.ports]
    assert port == 80
    assert settings.tls is not None
    assert settings.tls.mode is TlsMode.DISABLE
    (subset,) = policy.subsets
    assert subset.policy.load_balancer is not None
    assert subset.policy.load_balancer.method is Balancing.RANDOM


def test_service_entry_defaults() -> None:
    service = _one(
        _lower("ServiceEntry", "{hosts: [a.example.com], ports: [{number: 80, name: http}]}"), Service
    )
    assert service.external
    assert service.resolution is Resolution.PASSTHROUGH
    assert service.ports[0].app_protocol is None


def test_service_entry_by_dns_resolves_each_host_by_itself() -> None:
    spec = "{hosts: [a.example.com, b.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}"
    lowered = _lower("ServiceEntry", spec)
    assert _one(lowered, Service).endpoints == ()
    endpoints = link(lowered.fragments).mesh.endpoints
    for host in ("a.example.com", "b.example.com"):
        assert [(each.address, each.port) for each in endpoints[host].of(443)] == [(host, 443)]


@pytest.mark.parametrize(
    "spec",
    [
        "{hosts: [a], resolution: STATIC}",
        "{hosts: [a], resolution: STATIC, endpoints: [{address: b.example.com}]}",
        "{hosts: ['*.a'], resolution: DNS}",
        "{hosts: ['*'], resolution: NONE}",
        "{hosts: [a], endpoints: [{address: 10.0.0.1}]}",
        "{hosts: [a], resolution: STATIC, endpoints: [{address: 10.0.0.1, ports: {htp: 1}}]}",
        "{hosts: [a], addresses: [nonsense]}",
        "{hosts: [a], ports: [{number: 80, name: http, protocol: HTPP}]}",
        "{hosts: []}",
    ],
)
def test_service_entries_that_are_refused(spec: str) -> None:
    assert _lower("ServiceEntry", spec).has_errors


def test_workload_entries_have_a_sidecar_only_when_they_say_so() -> None:
    plain = _one(_lower("WorkloadEntry", "{address: 10.0.0.1, ports: {http: 80}, weight: 3}"), Workload)
    assert (plain.sidecar, plain.weight, plain.ports[0].number) == (SidecarMode.NONE, 3, 80)
    labels = "{security.istio.io/tlsMode: istio}"
    meshed = _one(_lower("WorkloadEntry", f"{{address: 10.0.0.1, labels: {labels}}}"), Workload)
    assert meshed.sidecar is SidecarMode.REMOTE
