"""What every dialect offers: the kinds it reads and how one object of a kind is lowered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tulle.dialects.status import Condition
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.fragments import Fragment
from tulle.objects import RawObject


@dataclass(frozen=True, slots=True)
class Lowered:
    """What objects mean: fragments of the model, and what was found on the way.

    An object with an ERROR diagnostic yields no fragments.
    """

    fragments: tuple[Fragment, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def has_errors(self) -> bool:
        """Whether any diagnostic refuses an object."""
        return any(found.severity is Severity.ERROR for found in self.diagnostics)


Lower = Callable[[RawObject], Lowered]


@dataclass(frozen=True, slots=True)
class KindInfo:
    """One kind: its API group, the versions that are read, and its names as a command line may write them."""

    group: str
    kind: str
    versions: tuple[str, ...]
    plural: str
    lower: Lower
    short: tuple[str, ...] = ()
    namespaced: bool = True
    in_clusters: bool = True
    """Whether Kubernetes can have objects of it, and not files only."""

    @property
    def api_versions(self) -> tuple[str, ...]:
        """Each ``apiVersion`` under which the kind is read, the preferred one first."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


@dataclass(frozen=True, slots=True)
class Dialect:
    """A configuration language: its name, its kinds, and what its objects' owners are told."""

    name: str
    kinds: tuple[KindInfo, ...]
    conditions: Callable[[Sequence[Diagnostic]], tuple[Condition, ...]]

    def by_type(self) -> Mapping[tuple[str, str], KindInfo]:
        """The kinds by (apiVersion, kind)."""
        return {(version, info.kind): info for info in self.kinds for version in info.api_versions}
