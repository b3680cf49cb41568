"""Where each value of an object was written, so that an error can name the line and column of one field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tulle.model.source import SourceRef

Path = tuple[str | int, ...]
"""The way from an object's top to one value: mapping keys and sequence indexes."""

Position = tuple[int, int]
"""A line and a column, both counted from 1."""


@dataclass(frozen=True, slots=True)
class MarkNode:
    """One value's position and those of the values inside it.

    ``fields`` holds, for a mapping, the position of each key and the node of its value; ``items`` the
    nodes of a sequence. Aliased YAML values share their node.
    """

    line: int
    column: int
    fields: Mapping[str, tuple[Position, MarkNode]] | None = None
    items: Sequence[MarkNode] | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """Finds the place of a value by its path; a missing value is at the innermost enclosing one."""

    file: str
    root: MarkNode

    def __call__(self, path: Path) -> SourceRef:
        """The place where the value at ``path`` starts."""
        node, _ = self._walk(path)
        return SourceRef(self.file, node.line, node.column)

    def key(self, path: Path) -> SourceRef:
        """The place of the key that introduces the value at ``path`` (of the value itself in a sequence)."""
        _, position = self._walk(path)
        return SourceRef(self.file, position[0], position[1])

    def _walk(self, path: Path) -> tuple[MarkNode, Position]:
        node = self.root
        position = (node.line, node.column)
        for step in path:
            if isinstance(step, str) and node.fields is not None and step in node.fields:
                position, node = node.fields[step]
            elif isinstance(step, int) and node.items is not None and 0 <= step < len(node.items):
                node = node.items[step]
                position = (node.line, node.column)
            else:
                break
        return node, position


def encode_node(node: MarkNode) -> list[Any]:
    """``node`` as nested JSON lists, for a store that must keep positions: [line, column, fields | items]."""
    if node.fields is not None:
        inner = {key: [at[0], at[1], encode_node(value)] for key, (at, value) in node.fields.items()}
        return [node.line, node.column, inner]
    if node.items is not None:
        return [node.line, node.column, [encode_node(item) for item in node.items]]
    return [node.line, node.column]


def decode_node(data: Sequence[Any]) -> MarkNode:
    """The inverse of :func:`encode_node`; raises ``ValueError`` for anything else."""
    match data:
        case [int(line), int(column)]:
            return MarkNode(line, column)
        case [int(line), int(column), dict(fields)]:
            inner = {str(key): ((int(at[0]), int(at[1])), decode_node(at[2])) for key, at in fields.items()}
            return MarkNode(line, column, fields=inner)
        case [int(line), int(column), list(items)]:
            return MarkNode(line, column, items=tuple(decode_node(item) for item in items))
    raise ValueError(f"not an encoded position: {data!r:.80}")
