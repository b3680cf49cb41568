"""Raw objects: identity, places, and the way through a store and back."""

from __future__ import annotations

import json

import pytest

from tulle.model.source import SourceRef
from tulle.objects import ObjectError, RawObject, group_of, namespace_of
from tulle.sources.yaml_reader import read_yaml

TEXT = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: route
  labels: {team: shop}
spec:
  http:
  - timeout: 5s
"""


def _read() -> RawObject:
    (obj,), diagnostics = read_yaml(TEXT, "a.yaml")
    assert diagnostics == ()
    return obj


def test_places_of_values_and_keys() -> None:
    obj = _read()
    path = ("spec", "http", 0, "timeout")
    assert obj.locate(path) == SourceRef("a.yaml", 8, 14)
    assert obj.locate.key(path) == SourceRef("a.yaml", 8, 5)


def test_place_of_a_missing_value_is_what_encloses_it() -> None:
    obj = _read()
    assert obj.locate(("spec", "http", 0, "retries", "attempts")) == SourceRef("a.yaml", 8, 5)
    assert obj.locate(("nothing",)) == obj.source == SourceRef("a.yaml", 1, 1)


def test_versions_of_a_kind_are_one_object() -> None:
    other = TEXT.replace("istio.io/v1\n", "istio.io/v1alpha3\n")
    (older,), _ = read_yaml(other, "b.yaml")
    assert older.key == _read().key == ("networking.istio.io", "VirtualService", "default", "route")


def test_stored_objects_keep_their_places() -> None:
    obj = _read()
    assert RawObject.decode(json.loads(json.dumps(obj.encode()))) == obj


def test_creation_time_orders_before_sequence() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z"},
    }
    obj = RawObject.from_body(body, SourceRef("x"), None, 7)
    assert obj.created == 1_767_323_045_000_000


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"kind": None}, ("kind",)),
        ({"apiVersion": 1}, ("apiVersion",)),
        ({"metadata": None}, ("metadata",)),
        ({"metadata": {"name": ""}}, ("metadata", "name")),
        ({"metadata": {"name": "a", "namespace": 5}}, ("metadata", "namespace")),
        ({"metadata": {"name": "a", "labels": {"version": 1}}}, ("metadata", "labels", "version")),
        ({"metadata": {"name": "a", "annotations": []}}, ("metadata", "annotations")),
        ({"metadata": {"name": "a", "creationTimestamp": "yesterday"}}, ("metadata", "creationTimestamp")),
    ],
)
def test_what_is_no_object_says_where(change: dict[str, object], path: tuple[str, ...]) -> None:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, **change}
    with pytest.raises(ObjectError) as caught:
        RawObject.from_body(body, SourceRef("x"), None, 0)
    assert caught.value.path == path


def test_groups_and_namespaces() -> None:
    assert group_of("v1") == ""
    assert group_of("networking.istio.io/v1beta1") == "networking.istio.io"
    assert namespace_of("v1", "Namespace", None) == ""
    assert namespace_of("v1", "Service", None) == "default"
    assert namespace_of("v1", "Service", "shop") == "shop"
