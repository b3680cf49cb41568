"""Objects to one linked mesh, remembering what did not change: each object is lowered once per edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tulle.dialects import Lowered, lower
from tulle.link import Linked, link, relink_endpoints
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.fragments import Fragment
from tulle.model.services import EndpointSet
from tulle.model.settings import MeshSettings
from tulle.model.workloads import Placement, Process, SidecarMode, Workload, WorkloadRef
from tulle.objects import ObjectKey, RawObject

Objects = Mapping[ObjectKey, RawObject]


@dataclass(frozen=True, slots=True)
class Placed:
    """A placement together with what the data plane does not see: whether traffic may come."""

    placement: Placement
    ready: bool


@dataclass(frozen=True, slots=True)
class Compiled:
    """A configuration and what it means. ``diagnostics`` holds the findings of lowering and of linking."""

    objects: Objects
    linked: Linked
    lowering: tuple[Diagnostic, ...]
    workloads: tuple[Workload, ...]
    endpoint_sets: tuple[EndpointSet, ...]
    processes: Mapping[WorkloadRef, Process]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Every finding, the objects' own before those of their combination."""
        return self.lowering + self.linked.diagnostics

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that refuse something."""
        return tuple(found for found in self.diagnostics if found.severity is Severity.ERROR)

    def managed(self) -> tuple[Workload, ...]:
        """The declared workloads that get a sidecar of ours, by namespace and name."""
        chosen = (each for each in self.workloads if each.sidecar is SidecarMode.MANAGED)
        return tuple(sorted(chosen, key=lambda each: (each.meta.namespace, each.meta.name)))


@dataclass(slots=True)
class Compiler:
    """Compiles configurations one after the other. Its memory is a cache only: results never depend on it."""

    settings: MeshSettings = field(default_factory=MeshSettings)
    """What holds of the mesh before any object has said anything."""
    _lowered: dict[ObjectKey, tuple[RawObject, Lowered]] = field(default_factory=dict)

    def compile(self, objects: Objects, placed: Iterable[Placed]) -> Compiled:
        """The meaning of a complete configuration."""
        results = [self._lower(objects[key]) for key in sorted(objects)]
        fragments = [fragment for result in results for fragment in result.fragments]
        placed = tuple(placed)
        linked = link(_with_readiness(fragments, placed), [each.placement for each in placed], self.settings)
        return Compiled(
            objects=objects,
            linked=linked,
            lowering=tuple(found for result in results for found in result.diagnostics),
            workloads=tuple(each for each in fragments if isinstance(each, Workload)),
            endpoint_sets=tuple(each for each in fragments if isinstance(each, EndpointSet)),
            processes={each.workload: each for each in fragments if isinstance(each, Process)},
        )

    def copy(self) -> Compiler:
        """One that knows the same, and whose later memories are its own."""
        return Compiler(self.settings, dict(self._lowered))

    def keep(self, objects: Objects) -> None:
        """Forgets what is not among ``objects``; called when a configuration has been accepted."""
        for key in self._lowered.keys() - objects.keys():
            del self._lowered[key]

    def _lower(self, obj: RawObject) -> Lowered:
        known = self._lowered.get(obj.key)
        if known is not None and known[0] == obj:
            return known[1]
        result = lower(obj)
        self._lowered[obj.key] = (obj, result)
        return result


def replace_placements(compiled: Compiled, placed: Iterable[Placed]) -> Compiled:
    """The fast path: the same configuration with other placements; nothing is lowered or linked again."""
    placed = tuple(placed)
    workloads = [each for each in _with_readiness(compiled.workloads, placed) if isinstance(each, Workload)]
    linked = relink_endpoints(
        compiled.linked, workloads, compiled.endpoint_sets, [each.placement for each in placed]
    )
    return replace(compiled, linked=linked)


def _with_readiness(fragments: Iterable[Fragment], placed: Iterable[Placed]) -> list[Fragment]:
    """The fragments, with every placed workload as ready as its supervisor says."""
    ready = {each.placement.workload: each.ready for each in placed}
    return [
        replace(each, ready=ready[ref])
        if isinstance(each, Workload) and (ref := WorkloadRef(each.meta.namespace, each.meta.name)) in ready
        else each
        for each in fragments
    ]
