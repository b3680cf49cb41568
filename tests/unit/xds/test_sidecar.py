"""What a sidecar is told: routes, clusters, endpoints and listeners of the host-mode picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_builders import (
    BACKEND,
    CLIENT,
    at,
    canary,
    linked,
    opened,
    placement,
    policy,
    routes,
    rule,
    service,
    snapshot,
    to,
    workload,
)

from tulle.link import link
from tulle.model.policies import ConnectionPool, OutlierDetection, TrafficPolicy
from tulle.model.routes import DirectResponse, HttpRule
from tulle.model.services import ServicePort, service_fqdn
from tulle.model.workloads import SidecarMode, Upstream, WorkloadPort, WorkloadRef
from tulle.protos import to_dict, unpack_any
from tulle.xds.emit import Emitter
from tulle.xds.scope import Scoper
from tulle.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Snapshot

V1 = WorkloadRef("default", "backend-v1")


def host(found: Snapshot, name: str = f"{BACKEND}:9001") -> Any:
    table = opened(found.resources[ROUTES]["outbound"])
    return next(each for each in table.virtual_hosts if each.name == name)


def cluster(found: Snapshot, name: str = f"outbound|9001||{BACKEND}") -> Any:
    return opened(found.resources[CLUSTER][name])


def http_options(made: Any) -> Any:
    return unpack_any(next(iter(made.typed_extension_protocol_options.values())))


def test_the_canary_routes_by_header_then_by_weight() -> None:
    internal, split = host(snapshot()).routes
    assert internal.match.headers[0].string_match.exact == "internal"
    assert internal.route.cluster == f"outbound|9001|v2|{BACKEND}"
    assert [(each.name, each.weight.value) for each in split.route.weighted_clusters.clusters] == [
        (f"outbound|9001|v1|{BACKEND}", 90),
        (f"outbound|9001|v2|{BACKEND}", 10),
    ]
    assert split.route.timeout.ToSeconds() == 0
    assert split.route.HasField("timeout")
    assert split.route.retry_policy.num_retries.value == 2
    assert list(split.route.retry_policy.retriable_status_codes) == [503]


def test_authorities_of_a_service() -> None:
    fragments = [
        *canary(),
        service("far", ServicePort(80, "http"), ServicePort(8080, "http"), namespace="shop"),
    ]
    found = snapshot(fragments)
    assert {"backend", "backend:9001", "backend.default", f"{BACKEND}:9001", BACKEND} <= set(
        host(found).domains
    )
    far = service_fqdn("far", "shop")
    assert set(host(found, f"{far}:80").domains) >= {"far.shop", "far.shop:80", far}
    assert "far" not in host(found, f"{far}:80").domains
    assert "far.shop" not in host(found, f"{far}:8080").domains
    blocked = host(found, "block_all")
    assert list(blocked.domains) == ["*"]
    assert blocked.routes[0].direct_response.status == 502


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 1_000_000), min_size=2, max_size=5).filter(any))
def test_weights_are_preserved(weights: list[int]) -> None:
    subset_names = [f"s{index}" for index in range(len(weights))]
    split = rule(
        *(to(subset=name, weight=weight) for name, weight in zip(subset_names, weights, strict=True))
    )
    found = snapshot([service(), workload("client", "client"), policy(None, *subset_names), routes(split)])
    emitted = host(found).routes[0].route.weighted_clusters.clusters
    assert [each.weight.value for each in emitted] == weights


def test_weights_that_add_up_to_nothing_are_answered_503() -> None:
    found = snapshot([service(), workload("client", "client"), routes(rule(to(weight=0)))])
    assert host(found).routes[0].direct_response.status == 503


def test_a_destination_nobody_declares_gets_an_empty_cluster() -> None:
    found = snapshot([service(), workload("client", "client"), routes(rule(to("nobody", port=80)))])
    missing = cluster(found, "outbound|80||nobody.default.svc.cluster.local")
    assert not missing.load_assignment.endpoints


def test_clusters_speak_mtls_to_sidecars_and_check_the_accounts() -> None:
    made = cluster(snapshot())
    secured, plain = made.transport_socket_matches
    assert to_dict(secured.match) == {"tlsMode": "istio"}
    context = unpack_any(secured.transport_socket.typed_config)
    assert context.sni == f"outbound_.9001_._.{BACKEND}"
    assert list(context.common_tls_context.alpn_protocols) == ["h2"]
    validation = context.common_tls_context.combined_validation_context
    names = validation.default_validation_context.match_typed_subject_alt_names
    assert [each.matcher.exact for each in names] == ["spiffe://cluster.local/ns/default/sa/backend"]
    assert validation.validation_context_sds_secret_config.name == "ROOTCA"
    assert plain.name == "tlsMode-disabled"
    assert http_options(made).explicit_http_config.HasField("http2_protocol_options")


def test_a_service_without_accounts_trusts_nobody() -> None:
    made = cluster(snapshot([service(), workload("client", "client")]))
    context = unpack_any(made.transport_socket_matches[0].transport_socket.typed_config)
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    assert len(validation.match_typed_subject_alt_names) == 1


def test_plaintext_endpoints_make_the_cluster_speak_the_applications_http() -> None:
    fragments = [service(), workload("client", "client"), workload("vm", sidecar=SidecarMode.NONE)]
    made = cluster(snapshot(fragments))
    assert http_options(made).explicit_http_config.HasField("http_protocol_options")


def test_endpoints_carry_what_transport_and_telemetry_need() -> None:
    made = opened(snapshot().resources[ENDPOINTS][f"outbound|9001|v2|{BACKEND}"])
    (endpoint,) = made.endpoints[0].lb_endpoints
    metadata = to_dict(endpoint.metadata)["filter_metadata"]
    assert metadata["envoy.transport_socket_match"] == {"tlsMode": "istio"}
    assert metadata["istio"] == {"workload": "backend-v2;default;backend;v2;Kubernetes"}
    assert made.endpoints[0].load_balancing_weight.value == 1


def test_a_policy_becomes_limits_and_ejection() -> None:
    strict = TrafficPolicy(
        connection_pool=ConnectionPool(
            100, max_pending_requests=10, max_requests=50, max_requests_per_connection=2
        ),
        outlier=OutlierDetection(consecutive_5xx=5, max_ejection_percent=50, min_health_percent=30),
    )
    fragments = [each for each in canary() if type(each).__name__ != "DestinationPolicy"]
    made = cluster(snapshot([*fragments, policy(strict, "v1", "v2")]), f"outbound|9001|v1|{BACKEND}")
    (limits,) = made.circuit_breakers.thresholds
    assert (limits.max_connections.value, limits.max_pending_requests.value, limits.max_requests.value) == (
        100,
        10,
        50,
    )
    assert limits.max_retries.value == 4294967295
    assert made.outlier_detection.consecutive_5xx.value == 5
    assert made.outlier_detection.max_ejection_percent.value == 50
    assert made.common_lb_config.healthy_panic_threshold.value == 30
    assert http_options(made).common_http_protocol_options.max_requests_per_connection.value == 2


@pytest.mark.parametrize(
    ("port", "chains"),
    [
        (ServicePort(9001, "http"), ["inbound|9001|http"]),
        (ServicePort(9001, "tcp"), ["inbound|9001|tcp"]),
        (ServicePort(9001), ["inbound|9001|http", "inbound|9001|tcp"]),
    ],
)
def test_inbound_takes_only_tls(port: ServicePort, chains: list[str]) -> None:
    fragments = [service("backend", port), workload("backend-v1", "backend", "v1", WorkloadPort(9001))]
    made = opened(snapshot(fragments, V1).resources[LISTENER]["inbound|9001"])
    assert [each.name for each in made.filter_chains] == chains
    assert made.address.socket_address.port_value == 20010
    for chain in made.filter_chains:
        assert chain.filter_chain_match.transport_protocol == "tls"
        assert unpack_any(chain.transport_socket.typed_config).require_client_certificate.value
    assert not made.HasField("default_filter_chain")


def test_the_outbound_listener_is_on_loopback_only() -> None:
    made = opened(snapshot().resources[LISTENER]["outbound"])
    assert made.address.socket_address.address == "127.0.0.1"
    assert made.address.socket_address.port_value == 22000


def test_what_the_application_listens_on_and_dials_is_in_its_namespace() -> None:
    """And nothing else is: the inbound listener is where the others are."""
    emitter, upstream = Emitter(), Upstream(at(), "backend", 9001, 7000)
    workloads = [workload("backend-v1", upstreams=(upstream,)), workload("client", "client", upstreams=(upstream,))]
    places = [replace(placement(name, 100), network_namespace=f"/{name}") for name in ("backend-v1", "client")]
    scoper = Scoper(link([service(), *workloads], places).mesh)
    for ref in (CLIENT, V1):
        found = emitter.emit(scoper.scope(ref))
        within = {
            name: opened(made).address.socket_address.network_namespace_filepath
            for name, made in found.resources[LISTENER].items()
        }
        assert within == {"outbound": f"/{ref.name}", "upstream|7000": f"/{ref.name}", "inbound|9001": ""}
        source = cluster(found, "inbound|9001||").upstream_bind_config.source_address
        assert (source.address, source.port_value) == ("0.0.0.0", 0)
        assert source.network_namespace_filepath == f"/{ref.name}"
        assert not cluster(found).HasField("upstream_bind_config")
    assert not cluster(snapshot(ref=V1), "inbound|9001||").HasField("upstream_bind_config")


def test_a_direct_response() -> None:
    answer = HttpRule(to().source, DirectResponse(418, b"tea"))
    (route,) = host(snapshot([service(), workload("client", "client"), routes(answer)])).routes
    assert (route.direct_response.status, route.direct_response.body.inline_bytes) == (418, b"tea")


def test_services_of_other_namespaces_are_hidden_when_not_exported() -> None:
    from tulle.model.meta import Visibility

    hidden = service("far", namespace="shop", visibility=Visibility(public=False, namespaces=("shop",)))
    found = snapshot([*canary(), hidden])
    assert not [name for name in found.resources[CLUSTER] if "far" in name]


def test_versions_are_the_same_in_every_process() -> None:
    assert snapshot().version == snapshot().version
    assert linked().mesh == linked().mesh
    assert CLIENT.name == "client"
