"""Consul's intentions: what each source may do at a destination, where the most specific one decides alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tulle.model.access import AccessAction, Clause
from tulle.model.meta import Meta
from tulle.model.source import SourceRef


class DefaultIntention(StrEnum):
    """What holds for callers of a destination that no intention of it names."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Permission:
    """ALLOW or DENY for the requests of `clause`; of several the first that matches decides."""

    source: SourceRef
    action: AccessAction
    clause: Clause


@dataclass(frozen=True, slots=True)
class IntentionSource:
    """`caller` is a service account (`NS/SA`); `NS/*` are those of a namespace, None is anybody of the mesh.

    Either `action` holds for everything, or `permissions` say what for which requests.
    """

    source: SourceRef
    caller: str | None
    action: AccessAction | None = None
    permissions: tuple[Permission, ...] = ()

    @property
    def rank(self) -> int:
        """Higher is more specific: an account, a namespace, anybody."""
        if self.caller is None:
            return 0
        return 1 if self.caller.endswith("/*") else 2


@dataclass(frozen=True, slots=True)
class IntentionSet:
    """The intentions of one destination: a host as written; None: every workload of the object's namespace."""

    meta: Meta
    destination: str | None
    sources: tuple[IntentionSource, ...]
