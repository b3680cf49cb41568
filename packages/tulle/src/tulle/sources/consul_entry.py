"""Makes objects of Consul's configuration entries, which have a Kind and a Name and no metadata.

Their fields may be written as `Sources`, `sources` or (with several words) `path_exact`; they are told on in the
spelling of the Kubernetes kinds, with the places where they were written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle.objects import MarkNode

API_VERSION = "consul.hashicorp.com/v1"

_NAMES = (
    "kind", "name", "namespace", "partition", "meta", "jwt", "providers", "verifyClaims", "path", "value", "sources",
    "peer", "samenessGroup", "action", "permissions", "precedence", "type", "description", "legacyID", "legacyMeta",
    "legacyCreateTime", "legacyUpdateTime", "http", "pathExact", "pathPrefix", "pathRegex", "header", "present",
    "exact", "prefix", "suffix", "contains", "regex", "invert", "ignoreCase", "methods", "hash", "createIndex",
    "modifyIndex",
)  # fmt: skip
_KNOWN = {name.lower(): name for name in _NAMES}
_LISTS = frozenset({"sources", "permissions", "header", "providers", "verifyClaims"})
_FREE = frozenset({"meta", "legacyMeta"})
_ENVELOPE = ("kind", "name", "namespace", "partition")


def is_entry(body: Any) -> bool:
    """Whether a document is such an entry."""
    if not isinstance(body, Mapping) or "apiVersion" in body or "metadata" in body:
        return False
    return {"kind", "name"} <= {_plain(key) for key in body}


def wrapped(body: Any, marks: MarkNode) -> tuple[Any, MarkNode]:
    """The entry as an object: what names it in `metadata`, the rest in `spec`."""
    named, placed = _renamed(body, marks)
    fields = dict(placed.fields or {})
    at = (marks.line, marks.column)
    metadata = {key: named[key] for key in ("name", "namespace") if key in named}
    meta_marks = MarkNode(*at, fields={key: fields[key] for key in metadata})
    spec = {key: value for key, value in named.items() if key not in _ENVELOPE}
    if "partition" in named:
        spec["partition"] = named["partition"]
    spec_marks = MarkNode(*at, fields={key: fields[key] for key in spec})
    whole = {"apiVersion": API_VERSION, "kind": named["kind"], "metadata": metadata, "spec": spec}
    return whole, MarkNode(
        *at,
        fields={
            "apiVersion": (at, MarkNode(*at)),
            "kind": fields["kind"],
            "metadata": (at, meta_marks),
            "spec": (at, spec_marks),
        },
    )


def _plain(key: object) -> str:
    return str(key).replace("_", "").lower()


def _renamed(value: Any, marks: MarkNode) -> tuple[Any, MarkNode]:
    if isinstance(value, Mapping) and marks.fields is not None:
        body: dict[str, Any] = {}
        fields = {}
        for key, inner in value.items():
            name = _KNOWN.get(_plain(key), str(key))
            at, at_value = marks.fields[key]
            told, placed = (inner, at_value) if name in _FREE else _renamed(inner, at_value)
            if name in _LISTS and isinstance(told, Mapping):
                told, placed = [told], MarkNode(placed.line, placed.column, items=(placed,))
            body[name], fields[name] = told, (at, placed)
        return body, MarkNode(marks.line, marks.column, fields=fields)
    if isinstance(value, list) and marks.items is not None:
        pairs = [_renamed(item, inner) for item, inner in zip(value, marks.items, strict=True)]
        items = tuple(inner for _, inner in pairs)
        return [item for item, _ in pairs], MarkNode(marks.line, marks.column, items=items)
    return value, marks
