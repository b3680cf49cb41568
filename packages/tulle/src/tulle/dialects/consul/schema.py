"""service-intentions: https://developer.hashicorp.com/consul/docs/reference/config-entry/service-intentions."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tulle.dialects.fields import DnsLabel, HeaderName, Ignored, Regex, Schema, Unsupported
from tulle.dialects.metadata import Envelope
from tulle.objects import show

_Ignored = Annotated[Any, Ignored()]
_JWT = Unsupported("write a RequestAuthentication, and an AuthorizationPolicy with requestPrincipals")


def _name(text: str) -> str:
    if text != "*" and ("*" in text or "/" in text):
        raise ValueError(f"must be the name of a service, or *, not {show(text)}")
    return text


Name = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_name)]
Namespace = DnsLabel | Literal["*"]
Action = Literal["allow", "deny"]


class HeaderMatch(Schema):
    """Exactly one condition on a header, which ``invert`` turns round."""

    name: HeaderName
    present: bool | None = None
    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    contains: str | None = None
    regex: Regex | None = None
    invert: bool = False
    ignore_case: bool = False


class HttpMatch(Schema):
    """Conditions on a request; at most one of the paths."""

    path_exact: Annotated[str, Field(pattern=r"^/")] | None = None
    path_prefix: Annotated[str, Field(pattern=r"^/")] | None = None
    path_regex: Regex | None = None
    header: list[HeaderMatch] = []
    methods: list[Annotated[str, Field(pattern=r"^[A-Z]+$")]] = []


class Permission(Schema):
    """Of several the first that matches decides."""

    action: Action
    http: HttpMatch
    jwt: _Ignored = None


class Source(Schema):
    """Either ``action``, or ``permissions``."""

    name: Name
    namespace: Namespace | None = None
    action: Action | None = None
    permissions: Annotated[list[Permission], Field(min_length=1)] | None = None
    description: str = ""
    type: Literal["consul"] = "consul"
    partition: Literal["default"] | None = None
    peer: Literal[""] = ""
    sameness_group: Literal[""] = ""
    precedence: _Ignored = None
    legacy_id: _Ignored = Field(default=None, alias="legacyID")
    legacy_meta: _Ignored = None
    legacy_create_time: _Ignored = None
    legacy_update_time: _Ignored = None


class ConfigEntrySpec(Schema):
    """What is beside Kind and Name."""

    sources: Annotated[list[Source], Field(min_length=1)]
    jwt: _Ignored = None
    meta: dict[str, str] = {}
    partition: Literal["default"] | None = None
    hash: _Ignored = None
    create_index: _Ignored = None
    modify_index: _Ignored = None


class EntryMeta(Schema):
    """The entry's Name: a service, or ``*``."""

    name: Name
    namespace: DnsLabel | None = None


class ConfigEntry(Schema):
    """A configuration entry of kind service-intentions."""

    api_version: str
    kind: str
    metadata: EntryMeta
    spec: ConfigEntrySpec


class Destination(Schema):
    """The service that is called."""

    name: Name
    namespace: DnsLabel | None = None


class ServiceIntentionsSpec(Schema):
    """The same as a configuration entry, with the destination in the spec."""

    destination: Destination
    sources: Annotated[list[Source], Field(min_length=1)]
    jwt: _Ignored = None


class ServiceIntentions(Envelope):
    """consul.hashicorp.com/v1alpha1 ServiceIntentions."""

    spec: ServiceIntentionsSpec
