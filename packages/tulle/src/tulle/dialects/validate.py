"""Checks an object against its schema and turns every deviation into a finding at the line it was written."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tulle.dialects.fields import Unsupported
from tulle.dialects.findings import Findings, did_you_mean, dotted
from tulle.objects import Path, show

_M = TypeVar("_M", bound=BaseModel)

_WANTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "bytes_type": "a string",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("more than", "gt"),
    "less_than": ("less than", "lt"),
}


def validate(schema: type[_M], findings: Findings) -> _M | None:
    """The object as an instance of ``schema``; None, with findings, when it is not one.

    A null field counts as left out, as in the Kubernetes API. Fields marked Unsupported give a warning.
    """
    body = _without_nulls(findings.obj.body)
    for path in _nulls(findings.obj.body, ()):
        known = known_fields(schema, path[:-1])
        if known and path[-1] not in known:
            _report_unknown(schema, path, findings)
    try:
        instance = schema.model_validate(body)
    except ValidationError as error:
        for path, details in _by_place(error, findings.obj.body).items():
            _report(schema, details, path, findings)
        return None
    _report_unsupported(instance, (), findings)
    return instance


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value


def _nulls(value: Any, path: Path) -> Iterator[Path]:
    """The paths of every null field."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if inner is None:
                yield (*path, key)
            else:
                yield from _nulls(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nulls(inner, (*path, index))


def _by_place(error: ValidationError, body: Any) -> dict[Path, list[ErrorDetails]]:
    """The errors by path; a value that fits no member of a union has one for each."""
    found: dict[Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_real_path(body, tuple(detail["loc"])), []).append(detail)
    return found


def _report(schema: type[BaseModel], details: list[ErrorDetails], path: Path, findings: Findings) -> None:
    # Of a union's members, the one whose type fits says best what is wrong.
    detail = min(details, key=lambda each: each["type"] in _WANTED)
    kind = detail["type"]
    if kind == "extra_forbidden":
        _report_unknown(schema, path, findings)
    elif kind == "missing":
        where = dotted(path[:-1]) or "the object"
        findings.error("missing-field", f"'{path[-1]}' is missing from {where}", path)
    elif kind in _WANTED:
        _report_type(details, path, findings)
    elif kind in ("literal_error", "enum"):
        expected = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        choices = [choice.strip() for choice in expected.split(",")]
        message = f"must be one of {', '.join(choices)}, not {show(detail['input'])}"
        close = did_you_mean(detail["input"], choices) if isinstance(detail["input"], str) else ""
        findings.error("wrong-value", message, path, close if close.startswith("did") else None)
    elif kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        findings.error(
            "out-of-range", f"must be {words} {detail['ctx'][bound]}, not {show(detail['input'])}", path
        )
    else:
        findings.error("wrong-value", _plain_message(detail), path)


def _report_unknown(schema: type[BaseModel], path: Path, findings: Findings) -> None:
    name = str(path[-1])
    hint = did_you_mean(name, known_fields(schema, path[:-1]))
    findings.error_at_key("unknown-field", f"there is no field '{name}' here", path, hint)


def _report_type(details: list[ErrorDetails], path: Path, findings: Findings) -> None:
    wanted = " or ".join(dict.fromkeys(_WANTED[each["type"]] for each in details))
    value = details[0]["input"]
    hint = None
    if wanted == "an integer" and isinstance(value, str) and value.strip().lstrip("-").isdigit():
        hint = f"without quotes: {value.strip()}"
    elif wanted == "true or false" and isinstance(value, str):
        hint = "write true or false, without quotes"
    elif wanted == "a string" and isinstance(value, bool | int | float):
        hint = f'in quotes: "{show(value)}"'
    elif wanted == "a list" and isinstance(value, str | int | Mapping):
        hint = "start each item with '- '"
    findings.error("wrong-type", f"must be {wanted}, not {show(value)}", path, hint)


def _plain_message(detail: ErrorDetails) -> str:
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "string_too_short":
        return "must not be empty"
    if detail["type"] == "too_short":
        return f"must have at least {detail['ctx']['min_length']} item(s)"
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _real_path(body: Any, loc: tuple[int | str, ...]) -> Path:
    """``loc`` without the names of union members and map-key marks that pydantic mixes in.

    The last step of a missing or misspelt field is not in the body and stays.
    """
    path: list[int | str] = []
    value = body
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        if step == "[key]":
            continue
        if isinstance(value, Mapping) and (step in value or (last and isinstance(step, str))):
            path.append(step)
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
            path.append(step)
            value = value[step]
    return tuple(path)


def known_fields(schema: type[BaseModel], path: Path) -> list[str]:
    """The names of the fields of the mapping at ``path``, as they are written."""
    found: Any = schema
    for step in path:
        found = _step_into(found, step)
        if found is None:
            return []
    model = _model_in(found)
    return [] if model is None else [_alias(name, field) for name, field in model.model_fields.items()]


def _step_into(annotation: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return _argument(annotation, list, 0)
    model = _model_in(annotation)
    if model is None:
        return _argument(annotation, dict, 1)
    for name, field in model.model_fields.items():
        if _alias(name, field) == step:
            return field.annotation
    return None


def _members(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return [inner for member in typing.get_args(annotation) for inner in _members(member)]
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    return [annotation]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def _argument(annotation: Any, origin: type, index: int) -> Any:
    for member in _members(annotation):
        if typing.get_origin(member) is origin:
            return typing.get_args(member)[index]
    return None


def _alias(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _report_unsupported(instance: Any, path: Path, findings: Findings) -> None:
    if isinstance(instance, BaseModel):
        for name, field in type(instance).model_fields.items():
            if name not in instance.model_fields_set:
                continue
            inner = (*path, _alias(name, field))
            marks = [mark for mark in field.metadata if isinstance(mark, Unsupported)]
            if marks:
                findings.unsupported(inner, marks[0].why)
            else:
                _report_unsupported(getattr(instance, name), inner, findings)
    elif isinstance(instance, list):
        for index, item in enumerate(instance):
            _report_unsupported(item, (*path, index), findings)
    elif isinstance(instance, dict):
        for key, item in instance.items():
            _report_unsupported(item, (*path, key), findings)
