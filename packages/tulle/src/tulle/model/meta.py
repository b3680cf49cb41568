"""What every fragment carries about the object it came from, and who may see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tulle.model.source import SourceRef

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label pairs sorted by key; build with `labels()`."""


def labels(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> Labels:
    """Label pairs in their one canonical order."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return tuple(sorted(items))


def selects(selector: Labels, candidate: Labels) -> bool:
    """Whether every pair of `selector` is among `candidate`; an empty selector selects everything."""
    return set(selector) <= set(candidate)


def label(of: Labels, key: str) -> str | None:
    """The value of one label, or None when it is not set."""
    return next((value for name, value in of if name == key), None)


@dataclass(frozen=True, slots=True, order=True)
class Meta:
    """The object a fragment was lowered from.

    `created` is a monotone order key (creation time or store sequence): among conflicting objects the
    smallest wins, then `namespace`, then `name`. `kind` is for messages (`VirtualService`).
    """

    created: int
    namespace: str
    name: str
    kind: str
    source: SourceRef

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Visibility:
    """Istio's exportTo: the namespaces that may see an object; `public` is `"*"`.

    `Visibility()` is public; `Visibility(public=False, namespaces=(own,))` is `"."`.
    """

    public: bool = True
    namespaces: tuple[str, ...] = ()

    def covers(self, namespace: str) -> bool:
        """Whether something in `namespace` may see the object."""
        return self.public or namespace in self.namespaces


PUBLIC = Visibility()
"""Visible from every namespace."""
