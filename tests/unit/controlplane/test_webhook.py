"""The webhook's judgement: a review in, a verdict out, by the same rules as `tulle apply`, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulle.api.backend import Refused
from tulle.api.webhook import AdmissionResponse, read_review
from tulle.controlplane.accepted import Accepted
from tulle.controlplane.configuration import Configuration
from tulle.controlplane.offline import check
from tulle.controlplane.placements import Placements
from tulle.controlplane.webhook import MAX_CAUSES, MAX_WARNING, MAX_WARNINGS, Reviewer
from tulle.sources.store import Store
from tulle.sources.yaml_reader import read_yaml

SERVICE: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "shop"},
    "spec": {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80}]},
}  # fmt: skip
ROUTE: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "r", "namespace": "shop"},
    "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]},
}  # fmt: skip
WRONG = {**ROUTE, "spec": {"hosts": ["a"], "http": [{"timeuot": "3s", "route": [{"destination": {"host": "a"}}]}]}}


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configuration]:
    """One that has the service, applied."""
    state: Path = tmp_path_factory.mktemp("state")
    store = Store.open(state / "store.db")
    found = Configuration([], store, Accepted.load(state), Placements.load(store.ledger), lambda compiled: None)
    found.start()
    objects, _ = read_yaml(json.dumps(SERVICE), "applied.yaml", 1)
    found.commit(found.propose(objects), lambda revision: None)
    yield found
    store.close()


def written(body: Any, operation: str = "CREATE", **more: Any) -> bytes:
    """A review as Kubernetes sends it; what is given replaces parts of its request."""
    group, _, version = str(body["apiVersion"]).rpartition("/") if isinstance(body, dict) else ("", "", "v1")
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": version, "kind": body["kind"] if isinstance(body, dict) else "Service"},
        "resource": {"group": group, "version": version, "resource": "things"},
        "requestKind": {"group": group, "version": version, "kind": "Thing"},
        "name": body["metadata"].get("name", "") if isinstance(body, dict) else "r",
        "namespace": "shop",
        "operation": operation,
        "userInfo": {"username": "admin", "groups": ["system:masters"], "extra": {"k": ["v"]}},
        "object": body,
        "oldObject": None,
        "dryRun": False,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**request, **more}}
    return json.dumps(review).encode()


def judged(reviewer: Reviewer, text: bytes) -> AdmissionResponse:
    return reviewer.judge(read_review(text), reviewer.configuration.rehearsal())


def verdict(configuration: Configuration, body: Any, operation: str = "CREATE", **more: Any) -> AdmissionResponse:
    return judged(Reviewer(configuration, lambda: 1e9), written(body, operation, **more))


def test_a_good_object_is_allowed_and_nothing_is_changed(configuration: Configuration) -> None:
    before = (configuration.accepted.revision, configuration.current, dict(configuration._compiler._lowered))
    for dry in (False, True):
        found = verdict(configuration, ROUTE, dryRun=dry)
        assert msgspec.to_builtins(found) == {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True}
    after = (configuration.accepted.revision, configuration.current, dict(configuration._compiler._lowered))
    assert before == after


def test_a_bad_one_is_refused_with_object_field_and_what_would_be_right(configuration: Configuration) -> None:
    status = verdict(configuration, WRONG).status
    assert status is not None
    assert (status.code, status.reason, status.status) == (422, "Invalid", "Failure")
    for said in ("VirtualService shop/r", "spec.http[0].timeuot", "there is no field", "did you mean 'timeout'"):
        assert said in status.message
    [cause] = status.details.causes
    assert (cause.reason, cause.field) == ("unknown-field", "spec.http[0].timeuot")
    assert (status.details.name, status.details.kind) == ("r", "VirtualService")


def test_it_finds_what_validate_finds(configuration: Configuration) -> None:
    """The same findings, by code, field and sentence, for a wrong object and for one with a warning."""
    warned = {**ROUTE, "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "nobody"}}]}]}}
    for body in (WRONG, warned):
        offline = check([("s.json", json.dumps(SERVICE)), ("r.json", json.dumps(body))])
        expected = [str(each).partition(": ")[2].partition(": ")[2] for each in offline.findings]
        found = verdict(configuration, body)
        said = [each.message for each in found.status.details.causes] if found.status else found.warnings
        assert [each.partition(": ")[2] for each in said] == expected
        assert expected


def test_it_is_judged_beside_what_the_store_has(configuration: Configuration) -> None:
    to_here = {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]}
    assert verdict(configuration, {**ROUTE, "spec": to_here}).warnings == []
    elsewhere = {"hosts": ["b"], "http": [{"route": [{"destination": {"host": "b"}}]}]}
    warnings = verdict(configuration, {**ROUTE, "spec": elsewhere}).warnings
    assert any("unknown-host" in each for each in warnings)


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("CONNECT", {}),
        ("UPDATE", {"subResource": "status"}),
        ("CREATE", {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}),
        ("CREATE", {"kind": {"group": "consul.hashicorp.com", "version": "v1", "kind": "service-intentions"}}),
        ("DELETE", {"object": None, "oldObject": WRONG}),
    ],
)
def test_what_is_none_of_our_business_is_allowed(
    configuration: Configuration, operation: str, more: dict[str, Any]
) -> None:
    assert verdict(configuration, WRONG, operation, **more).allowed


def test_a_version_that_is_not_read_is_refused(configuration: Configuration) -> None:
    found = verdict(configuration, {**ROUTE, "apiVersion": "networking.istio.io/v9"})
    assert found.status is not None
    assert "is read as networking.istio.io/v1" in found.status.message


def test_what_goes_is_allowed_to(configuration: Configuration) -> None:
    """A deletion says what will be missed; an object with a finalizer may lose it however wrong it is."""
    objects, _ = read_yaml(json.dumps(ROUTE), "applied.yaml", 2)
    configuration.commit(configuration.propose(objects), lambda revision: None)
    try:
        found = verdict(configuration, SERVICE, "DELETE", object=None, oldObject=SERVICE)
        assert found.allowed
        assert any("unknown-host" in each for each in found.warnings)
    finally:
        configuration.commit(configuration.propose((), [each.key for each in objects]), lambda revision: None)
    going = {**WRONG, "metadata": {**WRONG["metadata"], "deletionTimestamp": "2024-01-01T00:00:00Z"}}
    assert verdict(configuration, going, "UPDATE", oldObject=WRONG).allowed


def test_what_was_wrong_before_refuses_no_update(configuration: Configuration) -> None:
    labelled = {**WRONG, "metadata": {**WRONG["metadata"], "labels": {"a": "b"}}}
    found = verdict(configuration, labelled, "UPDATE", oldObject=WRONG)
    assert found.allowed
    assert any("timeuot" in each for each in found.warnings)
    assert not verdict(configuration, WRONG, "UPDATE", oldObject=ROUTE).allowed
    worse = {**WRONG, "spec": {**WRONG["spec"], "hosts": 3}}
    again = verdict(configuration, worse, "UPDATE", oldObject=WRONG)
    assert again.status is not None
    assert "timeuot" not in again.status.message


def test_names_that_kubernetes_gives_are_filled_in(configuration: Configuration) -> None:
    generated = {**ROUTE, "metadata": {"generateName": "r-"}}
    assert verdict(configuration, generated, name="").allowed
    refused = verdict(configuration, {**WRONG, "metadata": {"name": "r"}}, namespace="bank")
    assert refused.status is not None
    assert "VirtualService bank/r: " in refused.status.message
    nameless = verdict(configuration, {**ROUTE, "metadata": {}}, name="")
    assert nameless.status is not None
    assert (nameless.status.code, nameless.status.details.causes[0].field) == (400, "metadata.name")


def test_an_object_without_namespace_has_none(configuration: Configuration) -> None:
    """Of a Namespace, Kubernetes gives its own name as the namespace."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    assert verdict(configuration, body, namespace="shop").allowed


@pytest.mark.parametrize(
    ("body", "more", "field"),
    [
        (None, {}, ""),
        ([], {}, ""),
        ({**ROUTE, "kind": "Gateway"}, {"kind": {"group": "networking.istio.io", "version": "v1",
                                                 "kind": "VirtualService"}}, "kind"),
        (ROUTE, {"name": "other"}, "metadata.name"),
        (ROUTE, {"namespace": "bank"}, "metadata.namespace"),
        ({**ROUTE, "metadata": "r"}, {"name": "r"}, "metadata"),
    ],
)  # fmt: skip
def test_what_is_no_object_or_another_one_is_400(
    configuration: Configuration, body: Any, more: dict[str, Any], field: str
) -> None:
    odd = isinstance(body, dict) and not isinstance(body["metadata"], dict)
    review = json.loads(written({**ROUTE, **({} if odd else body or {})}, **more))
    review["request"]["object"] = body
    found = judged(Reviewer(configuration), json.dumps(review).encode())
    assert found.status is not None
    assert (found.status.code, found.status.details.causes[0].field) == (400, field)


SYSTEM = {
    "uid": "d4e5", "resourceVersion": "77", "generation": 1, "creationTimestamp": "2024-05-01T10:00:00Z",
    "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                       "time": "2024-05-01T10:00:00Z", "fieldsV1": {"f:spec": {"f:ports": {".": {}}}}}],
    "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "a", "uid": "u", "controller": True}],
    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}\n"}, "finalizers": ["foreground"],
    "labels": {"kubernetes.io/service-name": "a"},
}  # fmt: skip
OF_A_CLUSTER: list[dict[str, Any]] = [
    {"kind": "Service", "spec": {
        "ports": [{"protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080}], "selector": {"app": "z"},
        "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "type": "LoadBalancer", "sessionAffinity": "None",
        "externalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "allocateLoadBalancerNodePorts": True, "internalTrafficPolicy": "Cluster"}, "status": {"loadBalancer": {}}},
    {"kind": "ServiceAccount", "secrets": [{"name": "a"}], "imagePullSecrets": [{"name": "b"}]},
    {"kind": "Namespace", "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    {"kind": "Endpoints", "subsets": [{
        "addresses": [{"ip": "10.1.0.4", "nodeName": "n", "targetRef": {"kind": "Pod", "name": "p"}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}]},
    {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4", "endpoints": [{
        "addresses": ["10.1.0.4"], "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "n", "zone": "z", "targetRef": {"kind": "Pod", "name": "p"}}],
     "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]},
    {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4", "endpoints": None,
     "ports": None},
    {"kind": "ConfigMap", "data": {"istio": "x: ["}, "binaryData": {"b": "AAAA"}, "immutable": True},
]  # fmt: skip


@pytest.mark.parametrize("body", OF_A_CLUSTER, ids=lambda body: body["kind"])
def test_kubernetes_own_objects_are_let_through_as_its_api_has_them(
    configuration: Configuration, body: dict[str, Any]
) -> None:
    whole = {"apiVersion": "v1", "metadata": {"name": "z", "namespace": "shop", **SYSTEM}, **body}
    found = verdict(configuration, whole)
    assert found.allowed, found.status


def test_bombs_are_refused(configuration: Configuration) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = {"a": deep}
    for spec, code in (({"deep": deep}, "yaml-depth"), ({"many": [[]] * 20_001}, "yaml-too-large"),
                       ({"number": 2**63}, "yaml-integer"), ({"lists": [[]] * 200_001}, "yaml-too-large")):
        found = verdict(configuration, {**ROUTE, "spec": spec})
        assert found.status is not None
        assert [each.reason for each in found.status.details.causes] == [code]


def test_the_meshs_settings_are_read_out_of_their_text(configuration: Configuration) -> None:
    settings_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}}
    for text, field in (("accessLogFile: 3", "data.mesh.accessLogFile"), ("a: [", "data.mesh")):
        found = verdict(configuration, {**settings_map, "data": {"mesh": text}}, namespace="istio-system")
        assert found.status is not None
        assert found.status.details.causes[0].field == field


def test_what_is_said_is_bounded(configuration: Configuration) -> None:
    many = {**ROUTE, "spec": {**{f"field{number}": 1 for number in range(100)}, "hosts": ["a"]}}
    status = verdict(configuration, many).status
    assert status is not None
    assert len(status.details.causes) == MAX_CAUSES
    assert status.message.endswith("more")
    hosts = [{"route": [{"destination": {"host": f"{number}-{'x' * 50}"}}]} for number in range(200)]
    warnings = verdict(configuration, {**ROUTE, "spec": {"hosts": ["a"], "http": hosts}}).warnings
    assert warnings
    assert max(map(len, warnings)) <= MAX_WARNING
    assert sum(map(len, warnings)) <= MAX_WARNINGS


def test_refusals_are_logged_sparsely_and_without_what_the_object_says(
    configuration: Configuration, caplog: pytest.LogCaptureFixture
) -> None:
    reviewer = Reviewer(configuration, lambda: 1e9)
    secret = {**ROUTE, "spec": {"hosts": 3, "swordfish": "swordfish"}}
    for _ in range(100):
        assert not judged(reviewer, written(secret)).allowed
    assert 0 < len(caplog.records) < 20
    assert "VirtualService shop/r" in caplog.text
    assert "unknown-field" in caplog.text
    assert "swordfish" not in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"[]", b"{", b"\xff\xfe", b'"' + b"a" * 100, b"{}", b"[" * 100_000, b'{"a":' * 100_000,
        written(ROUTE).replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"),
        written(ROUTE).replace(b"AdmissionReview", b"AdmissionRevue"),
        written(ROUTE).replace(b'"uid"', b'"uuid"'),
        written(ROUTE, uid=""), written(ROUTE, uid="x" * 1000), written(ROUTE, uid=3), written(ROUTE, kind="Service"),
        written(ROUTE, operation=None), written(ROUTE, operation="PATCH"), written(ROUTE, object="\ud800"),
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": null}',
        written(ROUTE).replace(b'"hosts"', b'"n": ' + b"1" * 5000 + b', "hosts"'),
    ],
    ids=range(22),
)  # fmt: skip
def test_what_is_no_review_is_400(configuration: Configuration, text: bytes) -> None:
    with pytest.raises(Refused) as refused:
        judged(Reviewer(configuration), text)
    assert refused.value.status == 400


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
SPECS = st.dictionaries(
    st.sampled_from(["hosts", "http", "tls", "tcp", "gateways", "exportTo", "x"]),
    VALUES | st.lists(st.dictionaries(st.sampled_from(["match", "route", "timeout", "x"]), VALUES, max_size=3)),
    max_size=4,
)
METADATA = VALUES | st.dictionaries(
    st.sampled_from(["name", "namespace", "labels", "annotations", "creationTimestamp", "generateName", "x"]),
    VALUES, max_size=5,
)  # fmt: skip
KINDS = st.sampled_from([ROUTE, SERVICE, {**ROUTE, "kind": "Gateway"}, {**SERVICE, "kind": "ConfigMap"},
                         {"apiVersion": "tulle.dev/v1alpha1", "kind": "Workload"},
                         {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy"}])  # fmt: skip


def answered(configuration: Configuration, text: bytes) -> AdmissionResponse | int:
    """The verdict, or the status of a refusal to give one."""
    try:
        return judged(Reviewer(configuration), text)
    except Refused as refused:
        return refused.status


FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZ
@given(KINDS, METADATA, SPECS | VALUES, st.sampled_from(["CREATE", "UPDATE", "DELETE"]), VALUES)
def test_whatever_an_object_is_it_gets_a_verdict(
    configuration: Configuration, kind: dict[str, Any], metadata: Any, spec: Any, operation: str, old: Any
) -> None:
    before = configuration.current
    body = {"apiVersion": kind["apiVersion"], "kind": kind["kind"], "metadata": metadata, "spec": spec}
    review = json.loads(written({**body, "metadata": {}}, operation, oldObject=old))
    review["request"]["object"] = body
    found = answered(configuration, json.dumps(review).encode())
    if isinstance(found, AdmissionResponse):
        assert found.uid == review["request"]["uid"]
        assert found.allowed == (found.status is None)
        assert msgspec.json.decode(msgspec.json.encode(found))
    else:
        assert found == 400
    assert configuration.current is before


@FUZZ
@given(VALUES | st.binary(max_size=200), st.dictionaries(st.sampled_from(
    ["uid", "kind", "operation", "name", "namespace", "subResource", "object", "oldObject"]), VALUES))
def test_whatever_a_review_is_it_is_answered_or_refused(
    configuration: Configuration, whole: Any, parts: dict[str, Any]
) -> None:
    review = json.loads(written(ROUTE))
    review["request"] |= parts
    for text in (whole if isinstance(whole, bytes) else json.dumps(whole).encode(), json.dumps(review).encode()):
        found = answered(configuration, text)
        assert isinstance(found, AdmissionResponse) or found == 400
