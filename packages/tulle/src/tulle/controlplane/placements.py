"""Remembers, across restarts, where the supervisor put each workload's sidecar and whether it is ready."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import msgspec

from tulle.api import wire
from tulle.controlplane.compile import Placed
from tulle.model.workloads import InboundPort, Placement, UpstreamPort, WorkloadRef
from tulle.sources.store_db import UnwritableError
from tulle.sources.store_ledger import Ledger

log = logging.getLogger(__name__)

Key = tuple[str, str]


@dataclass(slots=True)
class Placements:
    """The placements by (namespace, name), kept in the store."""

    ledger: Ledger
    _by_key: dict[Key, wire.PlacementView] = field(default_factory=dict)
    barred: Container[Key] = frozenset()
    """Workloads that get no traffic whether they are ready or not: the revoked."""

    @classmethod
    def load(cls, ledger: Ledger) -> Placements:
        """What was kept."""
        kept = ledger.placements()
        return cls(ledger, {key: msgspec.convert(kept[key], wire.PlacementView) for key in sorted(kept)})

    def get(self, key: Key) -> wire.PlacementView | None:
        """One workload's placement."""
        return self._by_key.get(key)

    def put(self, key: Key, placement: wire.PlacementView) -> bool:
        """Keeps a placement. True when the data plane must know, not only people."""
        before = self._by_key.get(key)
        self._by_key[key] = placement
        if before != placement:
            with _best_effort():
                self.ledger.place(*key, msgspec.to_builtins(placement))
        return before is None or _to_model(key, before) != _to_model(key, placement)

    def remove(self, key: Key) -> bool:
        """Forgets a placement; False when there was none."""
        if self._by_key.pop(key, None) is None:
            return False
        with _best_effort():
            self.ledger.unplace(*key)
        return True

    def items(self) -> list[tuple[Key, wire.PlacementView]]:
        """All placements, by namespace and name."""
        return sorted(self._by_key.items())

    def workloads(self) -> list[Key]:
        """The workloads that have one, by namespace and name."""
        return sorted(self._by_key)

    def placed(self) -> list[Placed]:
        """All placements as the model has them."""
        return [self._placed(key, view) for key, view in self.items()]

    def _placed(self, key: Key, view: wire.PlacementView) -> Placed:
        found = _to_model(key, view)
        return replace(found, ready=False) if key in self.barred else found


@contextmanager
def _best_effort() -> Iterator[None]:
    """Traffic follows readiness also when the disk is full; supervisors tell placements anew after a restart."""
    try:
        yield
    except UnwritableError as error:
        log.warning("a placement is not kept: %s", error)


def _to_model(key: Key, view: wire.PlacementView) -> Placed:
    inbound = tuple(InboundPort(port.app, port.listen, port.name) for port in view.inbound)
    upstreams = tuple(UpstreamPort(each.service, each.port, each.local_port) for each in view.upstreams)
    placement = Placement(
        WorkloadRef(*key), view.outbound, view.admin, inbound, upstreams, view.network_namespace
    )
    return Placed(placement, view.ready)
