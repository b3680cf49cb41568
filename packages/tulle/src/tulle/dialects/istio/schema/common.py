"""What several Istio kinds share: string matches, destinations, percentages."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tulle.dialects.fields import PercentFloat, PlainHost, Port, Regex, Schema, Unsupported

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
