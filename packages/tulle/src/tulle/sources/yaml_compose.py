"""Composes YAML 1.2 documents from parser events into plain values and marks, refusing what could hurt."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml import events

from tulle.objects import MarkNode, Position

MAX_DEPTH = 64
MAX_NODES = 300_000
"""Most values in one text, each alias counted with everything it stands for."""
DOCUMENT_COST = 10
"""What starting a document counts as, in values: about what it costs."""
MAX_INTEGER = 2**63
MAX_SCALAR = 1024 * 1024

Composed = tuple[Any, MarkNode]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_BASED = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {
    ".nan": math.nan, ".NaN": math.nan, ".NAN": math.nan,
    **{sign + word: math.copysign(math.inf, -1.0 if sign == "-" else 1.0)
       for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}  # fmt: skip


class RefusedError(Exception):
    """A text that is not read: a code, a message, the place, and other places that belong to it."""

    def __init__(self, code: str, message: str, at: Position, related: tuple[Position, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.line, self.column = at
        self.related = related


def compose_documents(text: str) -> Iterator[Composed]:
    """Each document of ``text`` as (value, marks); raises :class:`RefusedError` at the first wrong thing."""
    stream = yaml.parse(text, Loader=_LOADER)
    composer = _Composer(stream)
    try:
        for event in stream:
            if isinstance(event, events.DocumentStartEvent):
                yield composer.document(_position(event))
    except yaml.YAMLError as error:
        raise _syntax(error) from error
    except (ValueError, UnicodeError) as error:
        raise RefusedError("yaml-syntax", f"not YAML: {error}", (1, 1)) from error


@dataclass(frozen=True, slots=True)
class _Anchor:
    value: Any
    node: MarkNode
    size: int


class _Composer:
    """Composes documents from the parser's events; the count of values runs through the whole text."""

    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream
        self._anchors: dict[str, _Anchor] = {}
        self._open: set[str] = set()
        self._nodes = 0

    def document(self, at: Position) -> Composed:
        self._anchors.clear()
        self._open.clear()
        self._count(DOCUMENT_COST, at)
        value, node = self._value(next(self._stream), 0)
        next(self._stream)
        return value, node

    def _value(self, event: Any, depth: int) -> Composed:
        at = _position(event)
        if isinstance(event, events.AliasEvent):
            return self._alias(event, at)
        before = self._nodes
        self._count(1, at)
        if depth > MAX_DEPTH:
            raise RefusedError("yaml-depth", f"values are nested deeper than {MAX_DEPTH} levels", at)
        anchor = event.anchor
        if anchor is not None:
            self._open.add(anchor)
        if isinstance(event, events.ScalarEvent):
            composed: Composed = (_scalar(event, at), MarkNode(*at))
        elif isinstance(event, events.SequenceStartEvent):
            composed = self._sequence(event, at, depth)
        else:
            composed = self._mapping(event, at, depth)
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = _Anchor(*composed, self._nodes - before)
        return composed

    def _alias(self, event: Any, at: Position) -> Composed:
        if event.anchor in self._open:
            raise RefusedError("yaml-alias", f"alias *{event.anchor} is inside the value it stands for", at)
        anchor = self._anchors.get(event.anchor)
        if anchor is None:
            raise RefusedError(
                "yaml-alias", f"alias *{event.anchor} has no anchor &{event.anchor} before it", at
            )
        self._count(anchor.size, at)
        return anchor.value, anchor.node

    def _count(self, nodes: int, at: Position) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise RefusedError(
                "yaml-too-large",
                f"the text has more than {MAX_NODES:,} values; split it into several files",
                at,
            )

    def _sequence(self, event: Any, at: Position, depth: int) -> Composed:
        _require_tag(event, "seq", at)
        values: list[Any] = []
        nodes: list[MarkNode] = []
        while not isinstance(inner := next(self._stream), events.SequenceEndEvent):
            value, node = self._value(inner, depth + 1)
            values.append(value)
            nodes.append(node)
        return values, MarkNode(*at, items=tuple(nodes))

    def _mapping(self, event: Any, at: Position, depth: int) -> Composed:
        _require_tag(event, "map", at)
        values: dict[str, Any] = {}
        fields: dict[str, tuple[Position, MarkNode]] = {}
        merges: list[tuple[Any, MarkNode, Position]] = []
        while not isinstance(inner := next(self._stream), events.MappingEndEvent):
            key, key_at = self._key(inner)
            value, node = self._value(next(self._stream), depth + 1)
            if key == "<<" and _is_plain(inner):
                merges.append((value, node, key_at))
                continue
            if key in values:
                first = fields[key][0]
                message = f"key '{key}' is here twice; it was first at {first[0]}:{first[1]}"
                raise RefusedError("yaml-duplicate-key", message, key_at, (first,))
            values[key] = value
            fields[key] = (key_at, node)
        for value, node, key_at in merges:
            _merge(values, fields, (value, node), key_at)
        return values, MarkNode(*at, fields=fields)

    def _key(self, event: Any) -> tuple[str, Position]:
        at = _position(event)
        if isinstance(event, events.AliasEvent):
            value, _ = self._alias(event, at)
            if isinstance(value, str):
                return value, at
        elif isinstance(event, events.ScalarEvent):
            value, _ = self._value(event, 0)
            if value is not None:
                # Kubernetes reads every key as a string, whatever it looks like.
                return event.value, at
        raise RefusedError("yaml-key", "a mapping's key must be a string", at)


def _merge(
    values: dict[str, Any], fields: dict[str, tuple[Position, MarkNode]], merged: Composed, at: Position
) -> None:
    """Fills in the keys of a ``<<`` mapping, or list of mappings, that are not there yet."""
    value, node = merged
    if node.items is not None:
        for inner in zip(value, node.items, strict=True):
            _merge(values, fields, inner, at)
        return
    if node.fields is None:
        raise RefusedError("yaml-merge", "'<<' must name a mapping or a list of mappings", at)
    for key, inner_value in value.items():
        if key not in values:
            values[key] = inner_value
            fields[key] = node.fields[key]


def _scalar(event: Any, at: Position) -> Any:
    text: str = event.value
    if len(text) > MAX_SCALAR:
        raise RefusedError("yaml-too-large", f"a value is longer than {MAX_SCALAR:,} characters", at)
    if event.tag is not None and event.tag != "!":
        return _tagged(event, text, at)
    return _plain(text, at) if _is_plain(event) else text


def _is_plain(event: Any) -> bool:
    return isinstance(event, events.ScalarEvent) and event.tag is None and bool(event.implicit[0])


def _tagged(event: Any, text: str, at: Position) -> Any:
    if event.tag == _TAG + "str":
        return text
    value = _plain(text, at)
    names = {"null": type(None), "bool": bool, "int": int, "float": float}
    wanted = names.get(event.tag.removeprefix(_TAG)) if event.tag.startswith(_TAG) else None
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is None:
        raise RefusedError(
            "yaml-tag", f"tag {_show_tag(event.tag)} is not read; only plain YAML values are", at
        )
    if type(value) is not wanted:
        raise RefusedError("yaml-tag", f"the value is not what its tag {_show_tag(event.tag)} says", at)
    return value


def _plain(text: str, at: Position) -> Any:
    """A plain scalar by YAML 1.2's core schema: ``on``, ``yes`` and ``0777`` are no boolean and no octal."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.match(text):
        return _integer(text, 10, at)
    if _BASED.match(text):
        return _integer(text[2:], 8 if text[1] == "o" else 16, at)
    if _FLOAT.match(text):
        return float(text)
    return _SPECIAL.get(text, text)


def _integer(digits: str, base: int, at: Position) -> int:
    value = int(digits, base) if len(digits) <= 40 else MAX_INTEGER
    if not -MAX_INTEGER <= value < MAX_INTEGER:
        raise RefusedError(
            "yaml-integer", f"{digits[:40]} is not a 64-bit integer; in quotes it is a string", at
        )
    return value


def _require_tag(event: Any, name: str, at: Position) -> None:
    if event.tag not in (None, "!", _TAG + name):
        raise RefusedError(
            "yaml-tag", f"tag {_show_tag(event.tag)} is not read; only plain YAML values are", at
        )


def _show_tag(tag: str) -> str:
    short = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
    return short if len(short) <= 60 else short[:57] + "..."


def _position(event: Any) -> Position:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


def _syntax(error: yaml.YAMLError) -> RefusedError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    context = getattr(error, "context", None)
    message = f"not YAML: {problem}" + (f" ({context})" if context else "")
    at = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return RefusedError("yaml-syntax", message, at)
