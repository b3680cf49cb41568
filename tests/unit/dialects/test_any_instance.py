"""Whatever the schema accepts, lowering ends in fragments and diagnostics, never in an exception."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tulle.dialects import known_kinds, lower, lower_all
from tulle.dialects.base import KindInfo
from tulle.dialects.consul import schema as consul
from tulle.dialects.gateway import schema as grants
from tulle.dialects.istio.schema import (
    destination_rule,
    gateway,
    mesh_config,
    security,
    service_entry,
    sidecar,
    virtual_service,
)
from tulle.dialects.istio.schema.common import OneOf
from tulle.dialects.kubernetes import schema as kubernetes
from tulle.dialects.linkerd import schema as linkerd
from tulle.dialects.metadata import ObjectMeta
from tulle.dialects.smi import schema as smi
from tulle.dialects.tulle import schema as own
from tulle.dialects.tulle import schema_traffic
from tulle.link import link
from tulle.model.source import SourceRef
from tulle.model.workloads import InboundPort, Placement, WorkloadRef
from tulle.objects import RawObject
from tulle.sources.yaml_reader import read_yaml
from tulle.xds.client import ClientKind
from tulle.xds.emit import emit
from tulle.xds.scope import scope

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
    "ReferenceGrant": grants.ReferenceGrant,
    "AuthorizationPolicy": security.AuthorizationPolicy,
    "PeerAuthentication": security.PeerAuthentication,
    "RequestAuthentication": security.RequestAuthentication,
    "TrafficTarget": smi.TrafficTarget,
    "HTTPRouteGroup": smi.HttpRouteGroup,
    "TCPRoute": smi.TcpRoute,
    "TrafficSplit": smi.TrafficSplit,
    "Workload": own.Workload,
    "MeshSettings": own.MeshSettings,
    "TrafficPolicy": schema_traffic.TrafficPolicy,
    "Sidecar": sidecar.Sidecar,
    "ConfigMap": mesh_config.MeshConfigMap,
    "IstioOperator": mesh_config.IstioOperator,
    "consul.hashicorp.com/ServiceIntentions": consul.ServiceIntentions,
    "consul.hashicorp.com/service-intentions": consul.ConfigEntry,
    "policy.linkerd.io/Server": linkerd.Server,
    "policy.linkerd.io/ServerAuthorization": linkerd.ServerAuthorization,
    "policy.linkerd.io/AuthorizationPolicy": linkerd.AuthorizationPolicy,
    "policy.linkerd.io/MeshTLSAuthentication": linkerd.MeshTlsAuthentication,
    "policy.linkerd.io/NetworkAuthentication": linkerd.NetworkAuthentication,
    "policy.linkerd.io/HTTPRoute": linkerd.HttpRoute,
}


def schema_of(info: KindInfo) -> type[BaseModel]:
    """By kind, or where several dialects have the kind by group too."""
    return SCHEMAS.get(f"{info.group}/{info.kind}") or SCHEMAS[info.kind]


POOL: tuple[Any, ...] = (
    "a", "b", "v1", "http", "web-1", "10.0.0.1", "::1", "*.example.com", "a.example.com", "*", ".", "/", "5xx", "x,y",
    "%PREFIX()%/x", "(", "^/a+$", "", "TCP", "HTTP", "aGk=", "UNAVAILABLE", "503, reset", "unix:///x", "mesh", "x/y",
    "source.ip", "request.headers[a]", "9001", "10.0.0.0/8", "/a/{*}", "a*", "Service",
    '{"keys": [{"kty": "oct", "k": "YQ"}]}', '{"keys": [{"kty": [1]}]}', "http://a/k",
    "0s", "1ms", "10s", "1m30s", "2h", 0, 1, 2, 3, 80, 100, 301, 503, 8080, 65535, 65537, 2**31 - 1, 0.5, True, False,
)  # fmt: skip
ANYTHING = st.none() | st.sampled_from(POOL) | st.lists(st.sampled_from(POOL), max_size=2)
ODDITIES: tuple[Any, ...] = (None, [], ["a"], [1, "x,y"], {}, {"a": 1}, *POOL)
FITTING = 250
"""Of this many values that the schema sees by itself, one need not fit it."""
ODD = 171
"""Which one: none that hypothesis prefers."""

WANTED = {
    "VirtualServiceSpec": ("hosts", "http"),
    "ServiceSpec": ("ports",),
    "ServicePort": ("name",),
    "WorkloadEntrySpec": ("address",),
    "WorkloadPort": ("name",),
    "FaultDelay": ("fixed_delay",),
    "FaultAbort": ("http_status",),
    "When": ("values",),
    "JwtRule": ("jwks",),
}
"""Optional fields without which lowering refuses the object."""

EXCLUDES = {
    "port": ("derivePort",),
    "uri": ("uriRegexRewrite",),
    "httpStatus": ("grpcStatus",),
    "mirror": ("mirrors",),
    "redirect": ("rewrite",),
    "directResponse": ("rewrite",),
    "endpoints": ("workloadSelector",),
    "simple": ("consistentHash",),
    "selector": ("targetRef", "targetRefs"),
    "jwks": ("jwksUri",),
    "principals": ("serviceAccounts", "notServiceAccounts"),
    "distribute": ("failover", "failoverPriority"),
}
"""Fields that lowering refuses next to another one."""


def _value(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a field as they would be written, nearly all of them right."""
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner = arguments[0]
        if typing.get_origin(inner) is list:
            return st.lists(_value(typing.get_args(inner)[0]), min_size=1, max_size=3)
        return _value(inner) if _is_model(inner) else _leaf(annotation)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_value(member) for member in arguments if member is not type(None)])
    if origin is list:
        return st.lists(_value(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(_key(arguments[0]), _value(arguments[1]), max_size=2)
    if _is_model(annotation):
        return st.deferred(lambda: _instance(annotation))
    return _leaf(annotation)


def _key(annotation: Any) -> st.SearchStrategy[str]:
    return st.sampled_from([value for value in POOL if isinstance(value, str) and _fits(annotation)(value)])


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@functools.cache
def _leaf(annotation: Any) -> st.SearchStrategy[Any]:
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else POOL
    right = [value for value in choices if _fits(annotation)(value)]
    if not right:
        return ANYTHING

    def chosen(lot: int) -> Any:
        among = ODDITIES if lot // len(right) == ODD else right
        return among[lot % len(among)]

    # One number for both choices: there are thousands of leaves, and hypothesis takes its time over each draw.
    return st.integers(0, FITTING * len(right) - 1).map(chosen)


@functools.cache
def _fits(annotation: Any) -> Callable[[Any], bool]:
    adapter = TypeAdapter(annotation, config=ConfigDict(strict=True))

    def fits(value: Any) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return fits


@functools.cache
def _instance(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    required, optional = {}, {}
    for name, field in model.model_fields.items():
        annotation = (
            typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        )
        wanted = field.is_required() or name in WANTED.get(model.__name__, ())
        target = required if wanted else optional
        target[field.alias or name] = _value(annotation)
    if issubclass(model, OneOf):
        return st.one_of([st.fixed_dictionaries({key: value}) for key, value in optional.items()])
    if model is virtual_service.HttpRoute:
        actions = [{key: optional.pop(key)} for key in ("route", "redirect", "directResponse", "delegate")]
        return st.one_of([_consistent(action, optional) for action in actions])
    return _consistent(required, optional)


def _consistent(
    required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    def without_excluded(fields: dict[str, Any]) -> dict[str, Any]:
        excluded = {name for key in fields for name in EXCLUDES.get(key, ())}
        return {key: value for key, value in fields.items() if key not in excluded}

    return st.fixed_dictionaries(required, optional=optional).map(without_excluded)


def _body(info: KindInfo) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        field.alias or name: _value(
            typing.Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        )
        for name, field in schema_of(info).model_fields.items()
        if name not in ("api_version", "kind", "metadata", "status")
    }
    return st.fixed_dictionaries(fields)


def test_every_kind_is_covered() -> None:
    assert {schema_of(info) for info in known_kinds()} == set(SCHEMAS.values())
    assert len(known_kinds()) == len(SCHEMAS)
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


SURROUNDINGS = """\
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80}, {name: tcp-x, port: 100}]}
---
apiVersion: v1
kind: Service
metadata: {name: v1}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: client, labels: {app: a}}
spec:
  ports: [{name: http, port: 80}, {name: tcp-x, port: 100}]
  upstreams: [{service: a, port: 80, localPort: 1500}, {service: a, port: 100, localPort: 1501}]
"""
CLIENT = WorkloadRef("default", "client")
INBOUND = (InboundPort(80, 1002), InboundPort(100, 1003))


@pytest.mark.parametrize(
    "info", [info for info in known_kinds() if info.kind != "Workload"], ids=lambda info: info.kind
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_lowered_links_and_is_emitted(info: KindInfo, data: st.DataObject) -> None:
    around, _ = read_yaml(SURROUNDINGS, "around.yaml")
    metadata = {"name": "b", "labels": {"kubernetes.io/service-name": "v1", "app": "a"}}
    body = {
        "apiVersion": info.api_versions[0], "kind": info.kind, "metadata": metadata, **data.draw(_body(info)),
    }  # fmt: skip
    lowered = lower_all([*around, RawObject.from_body(body, SourceRef("x.yaml", 1, 1), None, 9)])
    linked = link(lowered.fragments, [Placement(CLIENT, 1000, 1001, INBOUND)])
    for client in ClientKind:
        emit(scope(linked.mesh, CLIENT, client)).check()
