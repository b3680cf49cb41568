"""What a namespace lets another one do with what is its own (the Gateway API's ReferenceGrant)."""

from __future__ import annotations

from dataclasses import dataclass

from tulle.model.meta import Meta


@dataclass(frozen=True, slots=True)
class Grantee:
    """Objects of one kind in one namespace."""

    group: str
    kind: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Granted:
    """Objects of one kind in the grant's own namespace; `name` None is all of them."""

    group: str
    kind: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Any of `grantees` may refer to any of `granted`."""

    meta: Meta
    grantees: tuple[Grantee, ...]
    granted: tuple[Granted, ...]
