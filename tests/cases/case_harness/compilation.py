"""From a case's files to the linked mesh and the snapshot of a caller's proxy, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tulle.dialects import lower_all
from tulle.link import Linked, link
from tulle.model.diagnostics import Diagnostic
from tulle.model.fragments import Fragment
from tulle.model.workloads import InboundPort, Placement, SidecarMode, Workload, WorkloadRef
from tulle.sources.yaml_reader import Read, read_yaml
from tulle.xds.client import ClientKind
from tulle.xds.emit import emit
from tulle.xds.scope import scope
from tulle.xds.snapshot import Snapshot

CASES = Path(__file__).resolve().parent.parent
MESH = CASES / "mesh.yaml"

_FIRST_PORT = 20_000
_PORTS_PER_WORKLOAD = 20


@dataclass(frozen=True, slots=True)
class Compilation:
    """A configuration and what it became. ``own`` are the fragments of the case's own file."""

    own: tuple[Fragment, ...]
    diagnostics: tuple[Diagnostic, ...]
    linked: Linked

    def snapshot(self, caller: str, client: ClientKind = ClientKind.SIDECAR) -> Snapshot:
        """What the proxy of workload ``caller`` in namespace default is told."""
        snapshot = emit(scope(self.linked.mesh, WorkloadRef("default", caller), client))
        snapshot.check()
        return snapshot


def all_cases() -> list[Path]:
    """Every case's directory: two levels down, with an in.yaml."""
    return sorted(path.parent for path in CASES.glob("*/*/in.yaml"))


def compile_case(case: Path) -> Compilation:
    """The case's configuration within the common mesh."""
    base = _read(MESH, 0)
    own = _read(case / "in.yaml", len(base[0]))
    return _compile(base, own)


def compile_base() -> Compilation:
    """The common mesh alone."""
    return _compile(_read(MESH, 0), ((), ()))


def compile_alone(text: str) -> Compilation:
    """These objects without the common mesh."""
    return _compile(((), ()), read_yaml(text, "alone.yaml", 0))


def compile_files(files: Sequence[Path]) -> Compilation:
    """These files within the common mesh."""
    base = _read(MESH, 0)
    own: Read = ((), ())
    for file in files:
        objects, found = _read(file, len(base[0]) + len(own[0]))
        own = ((*own[0], *objects), (*own[1], *found))
    return _compile(base, own)


def compile_text(text: str) -> Compilation:
    """A configuration within the common mesh."""
    base = _read(MESH, 0)
    return _compile(base, read_yaml(text, "in.yaml", len(base[0])))


def compile_beside(case: Path, more: str) -> Compilation:
    """The case with further objects that it has nothing to do with."""
    base = _read(MESH, 0)
    own = _read(case / "in.yaml", len(base[0]))
    others = read_yaml(more, "others.yaml", len(base[0]) + len(own[0]))
    return _compile(base, (own[0] + others[0], own[1] + others[1]))


def reversed_objects(case: Path) -> Compilation:
    """The case with its objects arriving in the opposite order; it must make no difference."""
    base = _read(MESH, 0)
    own = _read(case / "in.yaml", len(base[0]))
    return _compile((base[0][::-1], base[1]), (own[0][::-1], own[1]))


def _read(path: Path, first: int) -> Read:
    return read_yaml(path.read_text(encoding="utf-8"), path.name, first)


def _compile(base: Read, own: Read) -> Compilation:
    lowered_base = lower_all(base[0])
    lowered_own = lower_all(own[0])
    fragments = (*lowered_base.fragments, *lowered_own.fragments)
    linked = link(fragments, _placements(fragments))
    found = (*base[1], *own[1], *lowered_base.diagnostics, *lowered_own.diagnostics, *linked.diagnostics)
    diagnostics = sorted(found, key=lambda each: (each.source, each.code, each.message))
    return Compilation(lowered_own.fragments, tuple(diagnostics), linked)


def _placements(fragments: tuple[Fragment, ...]) -> list[Placement]:
    """Ports by rank among the workloads with a sidecar, so that goldens do not depend on arrival."""
    managed = sorted(
        (each for each in fragments if isinstance(each, Workload) and each.sidecar is SidecarMode.MANAGED),
        key=lambda each: (each.meta.namespace, each.meta.name),
    )
    placements = []
    for rank, workload in enumerate(managed):
        first = _FIRST_PORT + rank * _PORTS_PER_WORKLOAD
        inbound = tuple(
            InboundPort(port.number, first + 2 + index, port.name)
            for index, port in enumerate(workload.ports)
        )
        ref = WorkloadRef(workload.meta.namespace, workload.meta.name)
        placements.append(Placement(ref, first, first + 1, inbound))
    return placements
