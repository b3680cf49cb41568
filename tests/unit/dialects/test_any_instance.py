"""Whatever the schema accepts, lowering ends in fragments and diagnostics, never in an exception."""

from __future__ import annotations

import typing
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tulle.dialects import known_kinds, lower
from tulle.dialects.base import KindInfo
from tulle.dialects.istio.schema import destination_rule, gateway, service_entry, virtual_service
from tulle.dialects.kubernetes import schema as kubernetes
from tulle.dialects.metadata import ObjectMeta
from tulle.dialects.tulle import schema as own
from tulle.dialects.validate import _members
from tulle.model.source import SourceRef
from tulle.objects import RawObject

SCHEMAS: dict[str, type[BaseModel]] = {
    "Service": kubernetes.Service,
    "ServiceAccount": kubernetes.ServiceAccount,
    "Namespace": kubernetes.Namespace,
    "Endpoints": kubernetes.Endpoints,
    "EndpointSlice": kubernetes.EndpointSlice,
    "VirtualService": virtual_service.VirtualService,
    "DestinationRule": destination_rule.DestinationRule,
    "ServiceEntry": service_entry.ServiceEntry,
    "WorkloadEntry": service_entry.WorkloadEntry,
    "Gateway": gateway.Gateway,
    "Workload": own.Workload,
}

TEXTS = st.sampled_from(
    ["a", "b", "v1", "http", "web-1", "10.0.0.1", "::1", "*.example.com", "a.example.com", "*", ".", "/", "5xx", "x,y",
     "%PREFIX()%/x", "(", "^/a+$", "", "TCP", "HTTP", "aGk=", "UNAVAILABLE", "503, reset"]
)  # fmt: skip
DURATIONS = st.sampled_from(["0s", "1ms", "10s", "1m30s", "2h", "0"])
INTEGERS = st.sampled_from([0, 1, 2, 3, 80, 100, 301, 503, 8080, 65535, 65537, 2**31 - 1])
ANYTHING = st.none() | st.booleans() | TEXTS | st.lists(TEXTS, max_size=2)


def _value(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a field as they would be written."""
    choices = []
    for member in _members(annotation):
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if member is type(None):
            continue
        if isinstance(member, type) and issubclass(member, BaseModel):
            choices.append(st.deferred(lambda model=member: _instance(model)))
        elif origin is list:
            choices.append(st.lists(_value(arguments[0]), max_size=3))
        elif origin is dict:
            choices.append(st.dictionaries(_value(arguments[0]), _value(arguments[1]), max_size=2))
        elif origin is typing.Literal:
            choices.append(st.sampled_from(arguments))
        else:
            choices.append(_plain(member))
    return st.one_of(choices) if choices else ANYTHING


def _plain(member: Any) -> st.SearchStrategy[Any]:
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXTS,
        int: INTEGERS,
        float: st.sampled_from([0, 0.5, 50, 100]),
        bool: st.booleans(),
        timedelta: DURATIONS,
    }
    return plain.get(member, ANYTHING)


def _instance(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    required, optional = {}, {}
    for name, field in model.model_fields.items():
        target = required if field.is_required() else optional
        target[field.alias or name] = _value(field.annotation)
    return st.fixed_dictionaries(required, optional=optional)


def _body(info: KindInfo) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        field.alias or name: _value(field.annotation)
        for name, field in SCHEMAS[info.kind].model_fields.items()
        if name not in ("api_version", "kind", "metadata", "status")
    }
    return st.fixed_dictionaries(fields)


def test_every_kind_is_covered() -> None:
    assert {info.kind for info in known_kinds()} == set(SCHEMAS)
    assert "name" in ObjectMeta.model_fields


@pytest.mark.parametrize("info", known_kinds(), ids=lambda info: info.kind)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_lowering_never_raises(info: KindInfo, data: st.DataObject) -> None:
    body = {
        "apiVersion": info.api_versions[0],
        "kind": info.kind,
        "metadata": {"name": "a", "labels": {"kubernetes.io/service-name": "a"}},
        **data.draw(_body(info)),
    }
    lowered = lower(RawObject.from_body(body, SourceRef("x.yaml", 1, 1), None, 0))
    for diagnostic in lowered.diagnostics:
        assert str(diagnostic)
    if lowered.has_errors:
        assert lowered.fragments == ()
