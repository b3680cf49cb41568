"""Reads a configuration object that comes as decoded JSON rather than as text: it has no lines, only fields.

What is refused is what the reader of texts refuses too: depth, number of values, numbers that no field can hold. Of one
object, fewer values are read than of a text with many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.source import SourceRef
from tulle.objects import MarkNode, ObjectError, RawObject, show
from tulle.sources.embedded import opened
from tulle.sources.yaml_compose import MAX_DEPTH, MAX_INTEGER, RefusedError

MAX_VALUES = 20_000
"""Most values in one object; an EndpointSlice with all the endpoints it can have has three quarters of that."""

MAX_BRACKETS = 200_000
"""Most opening brackets in the JSON of an object, which also says who manages which of its fields."""


def crowded(text: bytes, reference: str) -> Diagnostic | None:
    """What is wrong with an object's JSON that would take too long to decode."""
    if text.count(b"[") + text.count(b"{") <= MAX_BRACKETS:
        return None
    return _error(reference, "yaml-too-large", f"the object has more than {MAX_BRACKETS:,} lists and mappings")


def read_document(body: Any, reference: str, sequence: int) -> RawObject | Diagnostic:
    """The object, every value of it at ``reference``; or what is wrong with it.

    ``sequence`` is its age where the document does not say when it was created (see ``RawObject.created``).
    """
    if not isinstance(body, Mapping):
        message = f"an object must be a mapping with apiVersion, kind and metadata, not {show(body)}"
        return _error(reference, "not-an-object", message)
    refusal = _refusal(body, reference)
    if refusal is not None:
        return refusal
    at = SourceRef(reference)
    try:
        whole, marks = opened(body, MarkNode(0, 0), "")
        return RawObject.from_body(whole, at, marks, sequence)
    except RefusedError as refused:
        message = f"{refused.message} (line {refused.line} of the text)"
        return _error(reference, refused.code, message, "data.mesh")
    except ObjectError as error:
        return _error(reference, "not-an-object", str(error), ".".join(map(str, error.path)))


def _refusal(body: Any, reference: str) -> Diagnostic | None:
    """Level by level, so that the depth of what is looked at costs no stack."""
    count, level = 0, [body]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
                return _error(reference, "yaml-integer", "a number is not a 64-bit integer; in quotes it is a string")
        count += len(level)
        if count + len(below) > MAX_VALUES:
            return _error(reference, "yaml-too-large", f"the object has more than {MAX_VALUES:,} values")
        if not below:
            return None
        level = below
    return _error(reference, "yaml-depth", f"values are nested deeper than {MAX_DEPTH} levels")


def _error(reference: str, code: str, message: str, field: str | None = None) -> Diagnostic:
    return Diagnostic(Severity.ERROR, code, message, SourceRef(reference), field)
