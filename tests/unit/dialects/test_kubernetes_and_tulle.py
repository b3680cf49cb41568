"""Kubernetes core and Tulle's Workload."""

from __future__ import annotations

import pytest

from tulle.dialects import Lowered, lower
from tulle.model.services import EndpointSet, Resolution, Service
from tulle.model.workloads import HttpProbe, Process, Workload
from tulle.sources.yaml_reader import read_yaml


def _lower(text: str) -> Lowered:
    (obj,), diagnostics = read_yaml(text, "conf/x.yaml")
    assert diagnostics == ()
    return lower(obj)


def _service(spec: str, metadata: str = "name: a") -> Lowered:
    return _lower(f"apiVersion: v1\nkind: Service\nmetadata: {{{metadata}}}\nspec: {spec}\n")


def _made(lowered: Lowered) -> Service:
    assert not lowered.has_errors, lowered.diagnostics
    (fragment,) = lowered.fragments
    assert isinstance(fragment, Service)
    return fragment


def test_service() -> None:
    service = _made(
        _service(
            "{selector: {app: a}, clusterIP: 10.1.2.3, ports: [{port: 80, name: http, targetPort: '8080'}]}"
        )
    )
    assert service.hosts == ("a.default.svc.cluster.local",)
    assert service.selector == (("app", "a"),)
    assert service.addresses == ("10.1.2.3",)
    assert (service.ports[0].number, service.ports[0].target) == (80, 8080)


def test_a_service_is_named_by_one_label() -> None:
    assert _service("{ports: [{port: 80}]}", "name: a.b").has_errors
    assert _service("{ports: [{port: 80}]}", f"name: {'a' * 64}").has_errors


def test_headless_selectorless_and_exported() -> None:
    annotation = "annotations: {networking.istio.io/exportTo: '., prod'}"
    service = _made(
        _service("{clusterIP: None, ports: [{port: 80}]}", f"name: a, namespace: shop, {annotation}")
    )
    assert service.headless
    assert service.selector is None
    assert service.visibility.namespaces == ("prod", "shop")


def test_external_name() -> None:
    service = _made(_service("{type: ExternalName, externalName: db.example.com, ports: [{port: 5432}]}"))
    assert service.external
    assert service.resolution is Resolution.DNS
    assert service.endpoints[0].address == "db.example.com"


@pytest.mark.parametrize(
    "spec",
    [
        "{selector: {app: a}}",
        "{ports: [{port: 80}, {port: 81}]}",
        "{ports: [{port: 80, name: a}, {port: 81, name: a}]}",
        "{ports: [{port: 80, name: a}, {port: 80, name: b}]}",
        "{ports: [{port: 80, targetPort: 70000}]}",
        "{ports: [{port: 80, targetPort: a-name-that-is-far-too-long}]}",
        "{ports: [{port: 80}], clusterIP: nonsense}",
        "{type: ExternalName}",
        "{ports: [{port: 80}], selektor: {app: a}}",
    ],
)
def test_services_that_are_refused(spec: str) -> None:
    assert _service(spec).has_errors


def test_what_a_cluster_exports_is_read() -> None:
    lowered = _service(
        "{ports: [{port: 80, protocol: TCP, nodePort: 30080}], clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1],"
        " ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, internalTrafficPolicy: Cluster,"
        " sessionAffinity: None, type: NodePort, externalTrafficPolicy: Cluster}",
        "name: a, uid: u, resourceVersion: '1', creationTimestamp: '2026-01-01T00:00:00Z', managedFields: []",
    )
    assert not lowered.has_errors
    assert {each.code for each in lowered.diagnostics} == {"unsupported", "service-type"}


def test_kinds_that_only_name_something() -> None:
    for kind in ("ServiceAccount", "Namespace"):
        assert _lower(f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n") == Lowered()


def test_endpoints_and_slices() -> None:
    found = _lower(
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\n"
        "subsets: [{addresses: [{ip: 10.0.0.1}], notReadyAddresses: [{ip: 10.0.0.2}], ports: [{port: 80}]}]\n"
    )
    (endpoints,) = found.fragments
    assert isinstance(endpoints, EndpointSet)
    assert [each.address for each in endpoints.endpoints] == ["10.0.0.1"]
    slice_text = (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
        "metadata: {name: a-x%s}\nendpoints: [{addresses: [10.0.0.3], zone: z1}]\n"
    )
    (sliced,) = _lower(slice_text % ", labels: {kubernetes.io/service-name: a}").fragments
    assert isinstance(sliced, EndpointSet)
    assert (sliced.host, sliced.endpoints[0].locality) == ("a.default.svc.cluster.local", "/z1")
    assert _lower(slice_text % "").has_errors


WORKLOAD = "apiVersion: tulle.dev/v1alpha1\nkind: Workload\nmetadata: {name: a, labels: {app: a}}\nspec: "


def test_workload() -> None:
    lowered = _lower(
        WORKLOAD + "{serviceAccount: acc, ports: [{name: http, port: 9001}, {name: admin}],"
        " command: [python3, a.py], env: {B: '2', A: '1'}, upstreams: [{service: reviews, port: 9080}],"
        " readiness: {httpGet: {path: /health, port: http}}}\n"
    )
    assert lowered.diagnostics == ()
    workload, process = lowered.fragments
    assert isinstance(workload, Workload)
    assert isinstance(process, Process)
    assert [(port.number, port.name) for port in workload.ports] == [(9001, "http"), (0, "admin")]
    assert (workload.address, workload.service_account, workload.labels) == (
        "127.0.0.1",
        "acc",
        (("app", "a"),),
    )
    assert workload.upstreams[0].local_port == 0
    assert process.command == ("python3", "a.py")
    assert process.env == (("A", "1"), ("B", "2"))
    assert process.directory == "conf"
    assert process.readiness == HttpProbe("/health", "http")


@pytest.mark.parametrize(
    "spec",
    [
        "{ports: [{port: 0}]}",
        "{ports: [{port: 80}, {port: 80, name: b}]}",
        "{ports: [{name: a, port: 1}, {name: a, port: 2}]}",
        "{ports: [{port: 80}], upstreams: [{service: b, port: 1, localPort: 80}]}",
        "{ports: [{name: http, port: 80}], readiness: {httpGet: {port: htp}}}",
        "{command: []}",
        "{command: python3 a.py}",
        "{env: {PORT: 80}}",
        "{address: nowhere.example.com}",
        "{serviceacount: a}",
    ],
)
def test_workloads_that_are_refused(spec: str) -> None:
    assert _lower(f"{WORKLOAD}{spec}\n").has_errors
