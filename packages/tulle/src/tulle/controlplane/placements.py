"""Remembers, across restarts, where the supervisor put each workload's sidecar and whether it is ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tulle.api import wire
from tulle.controlplane.compile import Placed
from tulle.controlplane.durable import write_atomically
from tulle.model.workloads import InboundPort, Placement, UpstreamPort, WorkloadRef

FILE = "placements.json"
Key = tuple[str, str]


class _Entry(msgspec.Struct):
    namespace: str
    name: str
    placement: wire.PlacementView


@dataclass(slots=True)
class Placements:
    """The placements by (namespace, name), kept in one file of the state directory."""

    directory: Path
    _by_key: dict[Key, wire.PlacementView] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> Placements:
        """What was kept; nothing when there is no file. Raises `msgspec.DecodeError` for a file that is not ours."""
        path = directory / FILE
        if not path.exists():
            return cls(directory)
        entries = msgspec.json.decode(path.read_bytes(), type=list[_Entry])
        return cls(directory, {(each.namespace, each.name): each.placement for each in entries})

    def get(self, key: Key) -> wire.PlacementView | None:
        """One workload's placement."""
        return self._by_key.get(key)

    def put(self, key: Key, placement: wire.PlacementView) -> bool:
        """Keeps a placement. True when the data plane must know, not only people."""
        before = self._by_key.get(key)
        self._by_key[key] = placement
        if before != placement:
            self._save()
        return before is None or _to_model(key, before) != _to_model(key, placement)

    def remove(self, key: Key) -> bool:
        """Forgets a placement; False when there was none."""
        if self._by_key.pop(key, None) is None:
            return False
        self._save()
        return True

    def clear(self) -> None:
        """Forgets all placements."""
        self._by_key.clear()
        self._save()

    def items(self) -> list[tuple[Key, wire.PlacementView]]:
        """All placements, by namespace and name."""
        return sorted(self._by_key.items())

    def placed(self) -> list[Placed]:
        """All placements as the model has them."""
        return [_to_model(key, view) for key, view in self.items()]

    def _save(self) -> None:
        entries = [_Entry(namespace, name, view) for (namespace, name), view in self.items()]
        write_atomically(self.directory / FILE, msgspec.json.encode(entries))


def _to_model(key: Key, view: wire.PlacementView) -> Placed:
    inbound = tuple(InboundPort(port.app, port.listen, port.name) for port in view.inbound)
    upstreams = tuple(UpstreamPort(each.service, each.port, each.local_port) for each in view.upstreams)
    return Placed(Placement(WorkloadRef(*key), view.outbound, view.admin, inbound, upstreams), view.ready)
