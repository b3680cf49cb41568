"""What several Istio kinds share: string matches, destinations, percentages."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from tulle.dialects.fields import (
    PercentFloat,
    PlainHost,
    Port,
    Regex,
    Schema,
    Unsupported,
    check_header_name,
)
from tulle.objects import show

Later = Unsupported()


class OneOf(Schema):
    """A mapping that says exactly one of its fields, unless ``optional`` allows none."""

    @model_validator(mode="before")
    @classmethod
    def _one_field(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > 1:
            known = [name for name in value if name in cls._choices()]
            if len(known) > 1:
                raise ValueError(f"must say only one of {', '.join(known)}")
        return value

    @classmethod
    def _choices(cls) -> list[str]:
        return [field.alias or name for name, field in cls.model_fields.items()]


CLAIMS = "@request.auth.claims"
"""Begins what stands for a header's name and is a claim of the request's token: `.a.b` or `[a][b]` follow."""

_CLAIM_PATH = re.compile(r"(?:\.[^.\[\]]+)+|(?:\[[^\[\]]+\])+")


def claim_path(name: str) -> tuple[str, ...] | None:
    """The claim that a name stands for; None when it is a header's."""
    if not name.lower().startswith(CLAIMS):
        return None
    rest = name[len(CLAIMS) :]
    if not _CLAIM_PATH.fullmatch(rest):
        raise ValueError(f"must be {CLAIMS}.NAME or {CLAIMS}[NAME], not {show(name)}")
    return tuple(re.findall(r"[^.\[\]]+" if rest.startswith(".") else r"[^\[\]]+", rest))


def _matched_name(name: str) -> str:
    return name if claim_path(name) is not None else check_header_name(name)


MatchedName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_matched_name)]


class StringMatch(OneOf):
    """``regex`` is RE2 and matches the whole value; nothing given asks for presence."""

    exact: str | None = None
    prefix: str | None = None
    regex: Regex | None = None


class PortSelector(Schema):
    """A port by number."""

    number: Port


class Destination(Schema):
    """Where requests go: a host of the registry, optionally a subset of it and a port."""

    host: PlainHost
    subset: Annotated[str, Field(min_length=1)] | None = None
    port: PortSelector | None = None


class Percent(Schema):
    """A percentage with fractions."""

    value: PercentFloat = 0.0


class LabelSelector(Schema):
    """Workloads by label."""

    match_labels: dict[str, str] = {}


ExportTo = list[str]

TlsClientMode = Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]
