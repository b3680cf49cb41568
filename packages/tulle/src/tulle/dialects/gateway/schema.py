"""gateway.networking.k8s.io ReferenceGrant."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tulle.dialects.fields import DnsLabel, Schema, Subdomain
from tulle.dialects.metadata import Envelope

Group = Annotated[str, Field(pattern=r"^$|^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Kind = Annotated[str, Field(pattern=r"^[a-zA-Z]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$")]


class From(Schema):
    """Whose references are allowed."""

    group: Group
    kind: Kind
    namespace: DnsLabel


class To(Schema):
    """To what; without a name, to all of the kind."""

    group: Group
    kind: Kind
    name: Subdomain | None = None


class ReferenceGrantSpec(Schema):
    """Any of the first to any of the second."""

    from_: Annotated[list[From], Field(alias="from", min_length=1, max_length=16)]
    to: Annotated[list[To], Field(min_length=1, max_length=16)]


class ReferenceGrant(Envelope):
    """Allows references from other namespaces into its own."""

    spec: ReferenceGrantSpec
