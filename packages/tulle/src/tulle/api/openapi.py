"""Describes the admin API in OpenAPI 3.1; the shapes come from the message classes themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from tulle.api import audit, dry_run, federation, mtls, tokens, trust, wire

_REF = "#/components/schemas/{name}"

_OWN: tuple[tuple[str, str, str, type | None, Any], ...] = (
    ("post", "/v1/apply", "Create or change objects, all or none", wire.ApplyRequest, wire.ApplyResponse),
    ("get", "/v1/objects/{kind}", "List the objects of a kind", None, list[dict[str, Any]]),
    ("get", "/v1/objects/{kind}/{namespace}/{name}", "One object", None, dict[str, Any]),
    ("delete", "/v1/objects/{kind}/{namespace}/{name}", "Delete one object", None, wire.ApplyResponse),
    ("get", "/v1/status", "The control plane, its proxies and its findings", None, wire.StatusView),
    ("get", "/v1/proxies", "What each proxy has acknowledged", None, list[wire.ProxyView]),
    ("get", "/v1/diagnostics", "The findings in force", None, list[wire.Finding]),
    ("get", "/v1/edges", "Who calls whom, with counts and latencies", None, list[wire.EdgeView]),
    ("post", "/v1/access/check", "May one call the other?", wire.AccessQuestion, wire.AccessAnswer),
    ("get", "/v1/watch", "Server-sent events: one `revision` per accepted change", None, None),
    ("get", "/v1/workloads", "The declared workloads; ?known=G&wait=S waits for a change", None, wire.WorkloadList),
    ("put", "/v1/workloads/{namespace}/{name}/placement", "Say where a sidecar is", wire.PlacementView, None),
    ("delete", "/v1/workloads/{namespace}/{name}/placement", "Forget where a sidecar is", None, None),
    ("post", "/v1/workloads/{namespace}/{name}/join-token", "A one-time join token", None, wire.JoinToken),
    ("delete", "/v1/placements", "Forget all placements", None, None),
)

ROUTES = (
    *_OWN, *trust.DESCRIPTIONS, *audit.DESCRIPTIONS, *mtls.DESCRIPTIONS, *tokens.DESCRIPTIONS,
    *federation.DESCRIPTIONS, *dry_run.DESCRIPTIONS,
)


def describe() -> dict[str, Any]:
    """The whole description, JSON-ready."""
    shapes = [shape for _, _, _, asked, answered in ROUTES for shape in (asked, answered) if shape is not None]
    schemas, components = msgspec.json.schema_components([*shapes, wire.Failure], ref_template=_REF)
    by_shape = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, asked, answered in ROUTES:
        operation: dict[str, Any] = {"summary": summary, "parameters": _parameters(path)}
        if asked is not None:
            operation["requestBody"] = {"content": _content(next(by_shape)), "required": True}
        answer: dict[str, Any] = {"description": "done"}
        if answered is not None:
            answer["content"] = _content(next(by_shape))
        failure = {"description": "refused", "content": _content({"$ref": _REF.format(name="Failure")})}
        done = "200" if answered is not None or method == "get" else "204"
        operation["responses"] = {done: answer, "default": failure}
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tulle admin API", "version": "v1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _content(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
