"""Finds the dialect that reads an object, and says what is known when none does."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from tulle.dialects import consul, gateway, istio, kubernetes, linkerd, smi, tulle
from tulle.dialects.base import Dialect, KindInfo, Lowered
from tulle.dialects.status import Condition
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.objects import RawObject

DIALECTS: tuple[Dialect, ...] = (
    kubernetes.DIALECT,
    istio.DIALECT,
    smi.DIALECT,
    consul.DIALECT,
    linkerd.DIALECT,
    tulle.DIALECT,
    gateway.DIALECT,
)

_BY_TYPE = {key: info for dialect in DIALECTS for key, info in dialect.by_type().items()}


def known_kinds() -> tuple[KindInfo, ...]:
    """Every kind of every dialect, in the order of the dialects."""
    return tuple(info for dialect in DIALECTS for info in dialect.kinds)


def conditions(obj: RawObject, diagnostics: Sequence[Diagnostic]) -> tuple[Condition, ...]:
    """What the owner of ``obj`` is told, given everything that was found about it; nothing for unknown kinds."""
    for dialect in DIALECTS:
        if (obj.api_version, obj.kind) in dialect.by_type():
            return dialect.conditions(diagnostics)
    return ()


def lower(obj: RawObject) -> Lowered:
    """The meaning of one object; a kind that nobody reads is an ERROR that names those that are."""
    info = _BY_TYPE.get((obj.api_version, obj.kind))
    if info is None:
        return Lowered(diagnostics=(_unknown(obj),))
    return info.lower(obj)


def lower_all(objects: Iterable[RawObject]) -> Lowered:
    """The meaning of many objects, in their order; each stands and falls by itself."""
    results = [lower(obj) for obj in objects]
    return Lowered(
        tuple(fragment for result in results for fragment in result.fragments),
        tuple(found for result in results for found in result.diagnostics),
    )


def _unknown(obj: RawObject) -> Diagnostic:
    same_kind = sorted(version for version, kind in _BY_TYPE if kind == obj.kind)
    same_version = sorted(kind for version, kind in _BY_TYPE if version == obj.api_version)
    if same_kind:
        message = f"apiVersion {obj.api_version} of kind {obj.kind} is not read"
        hint = f"{obj.kind} is read as {_one_of(same_kind)}"
        return _error("unknown-api-version", message, obj, "apiVersion", hint)
    message = f"kind {obj.kind} of {obj.api_version} is not read"
    if same_version:
        close = difflib.get_close_matches(obj.kind, same_version, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        hint += f"{obj.api_version} has {_one_of(same_version)}"
    else:
        kinds = sorted({info.kind for info in known_kinds()})
        hint = f"read are {', '.join(kinds)}"
    return _error("unknown-kind", message, obj, "kind", hint)


def _error(code: str, message: str, obj: RawObject, field: str, hint: str) -> Diagnostic:
    return Diagnostic(Severity.ERROR, code, message, obj.locate((field,)), field=field, hint=hint)


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
