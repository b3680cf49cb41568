"""Endpoints from selectors, placements and declarations; the fast path; protocol selection."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_builders import BACKEND, at, canary, codes, linked, meta, placement, placements, service, workload

from tulle.link import link, relink_endpoints
from tulle.link.protocols import select_protocol
from tulle.model.meta import labels
from tulle.model.services import Protocol, Resolution, Service, ServicePort, StaticEndpoint
from tulle.model.workloads import InboundPort, Placement, SidecarMode, Workload, WorkloadPort, WorkloadRef


def test_an_endpoint_is_the_sidecar_not_the_application() -> None:
    endpoints = linked().mesh.endpoints[BACKEND]
    assert [(each.workload, each.port, each.mtls) for each in endpoints.of(9001)] == [
        ("backend-v1", 20010, True),
        ("backend-v2", 21010, True),
    ]
    assert endpoints.accounts == ("spiffe://cluster.local/ns/default/sa/backend",)


def test_what_is_not_started_or_not_ready_is_no_endpoint() -> None:
    fragments = [service(), workload("backend-v1", ready=False), workload("backend-v2")]
    assert link(fragments, [placement("backend-v1", 20000)]).mesh.endpoints[BACKEND].of(9001) == ()


def test_a_named_target_port_follows_the_picked_port() -> None:
    fragments = [
        service("backend", ServicePort(80, "http", "web")),
        workload("backend-v1", "backend", "v1", WorkloadPort(0, "web")),
    ]
    picked = Placement(WorkloadRef("default", "backend-v1"), 1, 2, (InboundPort(40000, 41000, "web"),))
    mesh = link(fragments, [picked]).mesh
    assert [each.port for each in mesh.endpoints[BACKEND].of(80)] == [41000]
    (inbound,) = mesh.workloads[WorkloadRef("default", "backend-v1")].inbound
    assert (inbound.app, inbound.listen, inbound.protocol) == (40000, 41000, Protocol.HTTP)
    assert inbound.services == (BACKEND,)


def test_a_missing_target_port_is_reported() -> None:
    fragments = [service("backend", ServicePort(80, "http", "web")), workload("backend-v1")]
    assert codes(linked(fragments)) == ["target-port-not-found"]


def test_a_workload_without_sidecar_is_reached_in_plaintext_on_its_own_port() -> None:
    entry = workload("vm", "backend", "v1", WorkloadPort(8080, "http"), sidecar=SidecarMode.NONE)
    endpoints = linked([service(), entry]).mesh.endpoints[BACKEND]
    assert [(each.port, each.mtls) for each in endpoints.of(9001)] == [(8080, False)]
    assert endpoints.has_plaintext
    assert endpoints.accounts == ()


def test_declared_endpoints_of_a_service_entry() -> None:
    entry = Service(
        meta("ServiceEntry", "api"),
        ("api.example.com",),
        (ServicePort(443, "https"),),
        resolution=Resolution.STATIC,
        endpoints=(StaticEndpoint(at(), "127.0.0.9"), StaticEndpoint(at(), "127.0.0.8")),
        external=True,
    )
    endpoints = linked([entry]).mesh.endpoints["api.example.com"].of(443)
    assert [(each.address, each.port, each.mtls) for each in endpoints] == [
        ("127.0.0.8", 443, False),
        ("127.0.0.9", 443, False),
    ]


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        (ServicePort(1, "http-api"), Protocol.HTTP),
        (ServicePort(1, "grpc-web-x"), Protocol.GRPC_WEB),
        (ServicePort(1, "grpc"), Protocol.GRPC),
        (ServicePort(1, "httpx"), Protocol.UNKNOWN),
        (ServicePort(1, "mysql"), Protocol.TCP),
        (ServicePort(3306), Protocol.TCP),
        (ServicePort(1, "http", app_protocol="kubernetes.io/h2c"), Protocol.HTTP2),
        (ServicePort(1, "http", app_protocol="example.com/own"), Protocol.UNKNOWN),
        (ServicePort(1, "http", transport="UDP"), Protocol.UDP),
    ],
)
def test_protocol_selection(port: ServicePort, protocol: Protocol) -> None:
    assert select_protocol(port) is protocol


def test_the_fast_path_equals_linking_anew_and_keeps_what_did_not_change() -> None:
    fragments = [*canary(), service("other", created=5), workload("other-1", "other")]
    before = link(fragments, [*placements(), placement("other-1", 23000)])
    moved = [*placements(), placement("other-1", 24000)]
    workloads = [each for each in fragments if isinstance(each, Workload)]
    after = relink_endpoints(before, workloads, [], moved)
    assert after.mesh == link(fragments, moved).mesh
    assert after.mesh.services is before.mesh.services
    assert after.mesh.endpoints[BACKEND] is before.mesh.endpoints[BACKEND]


@given(st.permutations([*canary(), service("other", created=1), workload("o", "other")]))
def test_arrival_order_does_not_matter(fragments: list) -> None:
    expected = link(sorted(fragments, key=repr), placements())
    found = link(fragments, list(reversed(placements())))
    assert found.mesh == expected.mesh
    assert found.diagnostics == expected.diagnostics


def test_conflicting_services_leave_the_older() -> None:
    older = service(created=1)
    younger = replace(service("backend", ServicePort(1, "tcp"), created=2), selector=labels({"app": "x"}))
    found = linked([younger, older])
    assert [port.number for port in found.mesh.services[BACKEND].ports] == [9001]
    assert "host-claimed-twice" in codes(found)
