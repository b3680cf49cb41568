"""Opens configuration that is written as text inside of an object: `mesh` in Istio's ConfigMap.

The text becomes part of the object, and every value of it keeps the line and column where it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle.objects import MarkNode
from tulle.sources.yaml_compose import RefusedError, compose_documents

_KEY = "mesh"


def opened(body: Any, marks: MarkNode, text: str) -> tuple[Any, MarkNode]:
    """The document with its embedded text composed. Raises `RefusedError` at the text's own place.

    Of a document that was never text (``marks`` without fields), the embedded text's own lines are all there is.
    """
    if not isinstance(body, Mapping) or body.get("kind") != "ConfigMap" or body.get("apiVersion") != "v1":
        return body, marks
    data = body.get("data")
    if not isinstance(data, Mapping) or not isinstance(data.get(_KEY), str):
        return body, marks
    if marks.fields is None:
        value, _ = _composed(data[_KEY], MarkNode(0, 0), "")
        return {**body, "data": {**data, _KEY: value}}, marks
    key_at, data_marks = marks.fields["data"]
    if data_marks.fields is None:
        return body, marks
    mesh_key_at, at = data_marks.fields[_KEY]
    value, inner = _composed(data[_KEY], at, text)
    fields = {**data_marks.fields, _KEY: (mesh_key_at, inner)}
    outer = MarkNode(data_marks.line, data_marks.column, fields=fields)
    whole = MarkNode(marks.line, marks.column, fields={**marks.fields, "data": (key_at, outer)})
    return {**body, "data": {**data, _KEY: value}}, whole


def _composed(written: str, at: MarkNode, text: str) -> tuple[Any, MarkNode]:
    indent = _block_indent(at, text)
    try:
        documents = list(compose_documents(written))
    except RefusedError as refused:
        if not at.line:
            raise
        place = (at.line, at.column) if indent is None else (at.line + refused.line, indent + refused.column)
        raise RefusedError(refused.code, refused.message, place) from refused
    if len(documents) > 1:
        raise RefusedError("yaml-syntax", "must be one document", (at.line, at.column))
    if not documents or documents[0][0] is None:
        return {}, MarkNode(at.line, at.column)
    value, inner = documents[0]
    return value, MarkNode(at.line, at.column) if indent is None else _shifted(inner, at.line, indent)


def _block_indent(at: MarkNode, text: str) -> int | None:
    """How far a literal block's lines are indented; None when the text is not written line by line."""
    lines = text.split("\n")
    header = lines[at.line - 1][at.column - 1 :] if at.line <= len(lines) else ""
    if not header.startswith("|"):
        return None
    first = next((line for line in lines[at.line :] if line.strip()), "")
    return len(first) - len(first.lstrip(" "))


def _shifted(node: MarkNode, lines: int, columns: int) -> MarkNode:
    line, column = node.line + lines, node.column + columns
    if node.fields is not None:
        fields = {
            key: ((at[0] + lines, at[1] + columns), _shifted(value, lines, columns))
            for key, (at, value) in node.fields.items()
        }
        return MarkNode(line, column, fields=fields)
    if node.items is not None:
        return MarkNode(line, column, items=tuple(_shifted(item, lines, columns) for item in node.items))
    return MarkNode(line, column)
