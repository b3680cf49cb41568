"""SMI's kinds in every version: what v1alpha1 and v1alpha2 have at the top, later ones have in ``spec``."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tulle.dialects.fields import Count, DnsLabel, HeaderName, Port, Regex, Schema, Subdomain
from tulle.dialects.metadata import Envelope
from tulle.objects import show

Name = Annotated[str, Field(min_length=1)]
Method = Literal["GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"]
_QUANTITY = re.compile(r"([0-9]{1,9})(m|k|M)?\Z")


def _quantity(text: str) -> str:
    if not _QUANTITY.match(text):
        raise ValueError(f"must be a weight such as 900, 500m or 1k, not {show(text)}")
    return text


def _port(text: str) -> str:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise ValueError(f"must be a port, not {show(text)}")
    return text


def thousandths(weight: int | str) -> int:
    """A weight, which in v1alpha1 is a resource quantity, in thousandths."""
    if isinstance(weight, int):
        return weight * 1000
    found = _QUANTITY.match(weight)
    if found is None:
        raise ValueError(f"not a weight: {show(weight)}")
    return int(found[1]) * {"m": 1, None: 1000, "k": 10**6, "M": 10**9}[found[2]]


class HttpMatch(Schema):
    """``pathRegex`` and the values of ``headers`` are RE2; the former need only match from the start."""

    name: Name
    methods: list[Method] = []
    path_regex: Regex | None = None
    headers: dict[HeaderName, Regex] | list[dict[HeaderName, Regex]] = {}


class HttpMatches(Schema):
    """The named matches."""

    matches: Annotated[list[HttpMatch], Field(min_length=1)]


class HttpRouteGroup(Envelope):
    """specs.smi-spec.io HTTPRouteGroup."""

    spec: HttpMatches | None = None
    matches: Annotated[list[HttpMatch], Field(min_length=1)] | None = None


class TcpMatches(Schema):
    """The ports of the destination; none are all."""

    ports: list[Port] = []
    name: Name | None = None


class TcpRouteSpec(Schema):
    """Without matches every connection."""

    matches: TcpMatches | None = None


class TcpRoute(Envelope):
    """specs.smi-spec.io TCPRoute."""

    spec: TcpRouteSpec = TcpRouteSpec()
    matches: TcpMatches | None = None


class Account(Schema):
    """A service account."""

    kind: Literal["ServiceAccount"]
    name: Subdomain
    namespace: DnsLabel | None = None


class DestinationAccount(Account):
    """Without ``port`` every port."""

    port: Port | Annotated[str, AfterValidator(_port)] | None = None


class SpecRef(Schema):
    """A route by name; of a group all matches, or those named."""

    kind: Literal["HTTPRouteGroup", "TCPRoute"]
    name: Name
    matches: list[Name] = []


class TrafficTargetSpec(Schema):
    """``specs`` is the name that v1alpha1 has for ``rules``."""

    destination: DestinationAccount
    sources: Annotated[list[Account], Field(min_length=1)]
    rules: list[SpecRef] = []
    specs: list[SpecRef] = []


class TrafficTarget(Envelope):
    """access.smi-spec.io TrafficTarget."""

    spec: TrafficTargetSpec | None = None
    destination: DestinationAccount | None = None
    sources: Annotated[list[Account], Field(min_length=1)] | None = None
    rules: list[SpecRef] = []
    specs: list[SpecRef] = []


class Backend(Schema):
    """A service of the same namespace and its part of the traffic: weights are ratios."""

    service: Name
    weight: Count | Annotated[str, AfterValidator(_quantity)]


class GroupRef(Schema):
    """An HTTPRouteGroup that says which requests are split."""

    kind: Literal["HTTPRouteGroup"]
    name: Name
    api_group: str | None = None


class TrafficSplitSpec(Schema):
    """Calls to ``service`` go to the backends."""

    service: Name
    backends: Annotated[list[Backend], Field(min_length=1)]
    matches: list[GroupRef] = []


class TrafficSplit(Envelope):
    """split.smi-spec.io TrafficSplit."""

    spec: TrafficSplitSpec
