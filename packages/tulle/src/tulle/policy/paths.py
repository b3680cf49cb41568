"""Paths in the form in which sidecars match and forward them, by the mesh's level of normalization."""

from __future__ import annotations

import re
import string

from tulle.model.settings import PathNormalization

_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
_ENCODED = re.compile("%([0-9A-Fa-f]{2})")


def canonical(level: PathNormalization, path: str) -> str:
    """The path that is authorized and forwarded when `path`, which begins with a slash and has no query, is asked for
    (RFC 3986 §6.2.2, and Istio's further levels).
    """
    if level is PathNormalization.NONE or path == "*":
        return path
    if level is PathNormalization.DECODE_AND_MERGE_SLASHES:
        path = re.sub("%2[fF]", "/", re.sub("%5[cC]", r"\\", path))
    path = _without_dots(_ENCODED.sub(_decoded, path).replace("\\", "/"))
    if level is not PathNormalization.BASE:
        path = re.sub("/{2,}", "/", path)
    return path


def _decoded(match: re.Match[str]) -> str:
    """The character itself where encoding it says nothing (RFC 3986 §6.2.2.2)."""
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0]


def _without_dots(path: str) -> str:
    """Without dot segments (RFC 3986 §5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        if segment not in (".", ".."):
            kept.append(segment)
            continue
        if segment == "..":
            del kept[-1:]
        if index == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept)
