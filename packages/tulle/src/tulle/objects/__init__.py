"""Raw objects: what every source yields and every dialect reads, with the place each value was written."""

from __future__ import annotations

from tulle.objects.marks import MarkNode, Marks, Path, Position
from tulle.objects.raw import (
    CLUSTER_SCOPED,
    DEFAULT_NAMESPACE,
    JsonValue,
    ObjectError,
    ObjectKey,
    RawObject,
    group_of,
    namespace_of,
    show,
)

__all__ = [
    "CLUSTER_SCOPED",
    "DEFAULT_NAMESPACE",
    "JsonValue",
    "MarkNode",
    "Marks",
    "ObjectError",
    "ObjectKey",
    "Path",
    "Position",
    "RawObject",
    "group_of",
    "namespace_of",
    "show",
]
