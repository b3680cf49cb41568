"""Writes models, snapshots and diagnostics as text that is good to review and stable to compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any

import yaml

from case_harness.compilation import Compilation
from tulle.model.meta import Meta
from tulle.model.routes import Percent
from tulle.model.source import SourceRef
from tulle.protos import message, to_dict
from tulle.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Snapshot

SECTIONS = {"clusters": CLUSTER, "endpoints": ENDPOINTS, "listeners": LISTENER, "routes": ROUTES}

FIRST = ("@type", "name", "cluster_name")


def model_text(compilation: Compilation) -> str:
    """The fragments that the case's own objects were lowered to, defaults left out."""
    return _yaml([{type(fragment).__name__: plain(fragment)} for fragment in compilation.own])


def diagnostics_text(compilation: Compilation) -> str:
    """One diagnostic a line."""
    return "".join(f"{diagnostic}\n" for diagnostic in compilation.diagnostics)


def xds_text(snapshot: Snapshot, base: Snapshot) -> str:
    """The resources of ``snapshot`` that ``base`` does not have like that; of routes the virtual hosts."""
    changed: dict[str, Any] = {}
    for section, type_url in SECTIONS.items():
        ours, theirs = opened(snapshot, type_url), opened(base, type_url)
        different = {name: body for name, body in sorted(ours.items()) if theirs.get(name) != body}
        gone = sorted(theirs.keys() - ours.keys())
        if section == "routes":
            different = {name: _changed_hosts(body, theirs.get(name)) for name, body in different.items()}
        if different:
            changed[section] = different
        if gone:
            changed[f"{section} gone"] = gone
    return _yaml(changed)


def inbound_text(snapshot: Snapshot) -> str:
    """The listeners of the application's ports."""
    listeners = opened(snapshot, LISTENER)
    return _yaml({name: body for name, body in sorted(listeners.items()) if name.startswith("inbound")})


def opened(snapshot: Snapshot, type_url: str) -> dict[str, dict[str, Any]]:
    """The snapshot's resources of one type as plain data."""
    kind = message(type_url.rpartition("/")[2])
    any_type = message("google.protobuf.Any")
    return {
        name: _ordered(to_dict(kind.FromString(any_type.FromString(resource.body).value)))
        for name, resource in snapshot.resources[type_url].items()
    }


def _ordered(value: Any) -> Any:
    """Keys by name, after what names the thing: a Struct's fields have no order of their own."""
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: (key not in FIRST, key))
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """A model value as YAML-ready data; fields with their default value are left out."""
    match value:
        case SourceRef():
            return str(value)
        case Meta():
            return f"{value} at {value.source}"
        case Percent():
            return f"{value.millionths / 10_000:g}%"
        case timedelta():
            return f"{value.total_seconds():g}s"
        case Enum():
            return value.value
        case bytes():
            return value.decode()
        case tuple() | list():
            return [plain(item) for item in value]
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
    return value


def _changed_hosts(body: dict[str, Any], base: dict[str, Any] | None) -> dict[str, Any]:
    if base is None:
        return body
    same = base.get("virtual_hosts", [])
    if body.get("request_headers_to_remove") == base.get("request_headers_to_remove"):
        body = {key: value for key, value in body.items() if key != "request_headers_to_remove"}
    return {**body, "virtual_hosts": [host for host in body.get("virtual_hosts", []) if host not in same]}


def _yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Without anchors: a value that occurs twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
