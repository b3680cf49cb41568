"""Where delivery gets each proxy's snapshot from, and who may read it: the linked mesh, emitted per proxy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from tulle.delivery.contract import Node, Peer, Subscription
from tulle.model.mesh import Mesh
from tulle.model.workloads import WorkloadRef
from tulle.xds.client import ClientKind
from tulle.xds.emit import Emitter
from tulle.xds.revocations import Revocations
from tulle.xds.scope import Scoper
from tulle.xds.snapshot import InconsistentSnapshot, Snapshot

log = logging.getLogger(__name__)

Key = tuple[WorkloadRef, ClientKind]


def workload_of(node_id: str) -> WorkloadRef | None:
    """The workload that a node id names (`sidecar~address~name.namespace~domain`), None for any other form."""
    parts = node_id.split("~")
    if len(parts) != 4:
        return None
    name, dot, namespace = parts[2].rpartition(".")
    return WorkloadRef(namespace, name) if dot else None


@dataclass(slots=True)
class _Subscription:
    """One stream's view of its snapshot."""

    book: SnapshotBook
    key: Key
    notify: Callable[[], None]

    def current(self) -> Snapshot | None:
        return self.book.snapshots.get(self.key)

    def close(self) -> None:
        self.book.leave(self)


@dataclass(slots=True)
class SnapshotBook:
    """The newest snapshot of every proxy that is connected. Belongs to one event loop."""

    snapshots: dict[Key, Snapshot] = field(default_factory=dict)
    _emitter: Emitter = field(default_factory=Emitter)
    _scoper: Scoper | None = None
    revoked: dict[WorkloadRef, float] = field(default_factory=dict)
    """Who was revoked when. Who no longer is stays here, so that giving an identity back drains nobody."""
    barred: Collection[tuple[str, str]] = ()
    """Who is revoked now (namespace, name): looked at whenever snapshots are made."""
    _from_the_start: float = 0.0
    _told: dict[WorkloadRef, float] = field(default_factory=dict)
    """Up to which revocation each proxy has the list."""
    _open: list[_Subscription] = field(default_factory=list)

    def update(self, mesh: Mesh) -> None:
        """Emits again for whoever is connected and wakes those whose snapshot is another than before.

        A snapshot of equal content keeps its identity.
        """
        self._scoper = Scoper(mesh, self._scoper)
        self._emit_again()

    def begin(self, revoked: Mapping[tuple[str, str], float]) -> None:
        """Who (namespace, name) was revoked before the start, and when (seconds since 1970): every proxy gets the list
        of these before anything else.
        """
        self.revoked = {WorkloadRef(*key): at for key, at in revoked.items()}
        self._from_the_start = max(revoked.values(), default=0.0)

    def has_list(self, workloads: Iterable[tuple[str, str]], revoked: Mapping[tuple[str, str], float]) -> None:
        """The proxies of these workloads refuse all these."""
        self.revoked |= {WorkloadRef(*key): at for key, at in revoked.items()}
        until = max(revoked.values(), default=0.0)
        refs = (WorkloadRef(*each) for each in workloads)
        told = {ref: until for ref in refs if until > self._told.get(ref, self._from_the_start)}
        if told:
            self._told |= told
            self._emit_again()

    def _emit_again(self) -> None:
        if self._scoper is None:
            return
        before, workloads = self.snapshots, self._scoper.mesh.workloads
        self.snapshots = {key: self._emit_or_keep(key, old) for key, old in before.items() if key[0] in workloads}
        for subscription in self._open:
            if self.snapshots.get(subscription.key) is not before.get(subscription.key):
                subscription.notify()

    def open(self, node: Node, peer: Peer, notify: Callable[[], None]) -> Subscription:
        """Starts to watch; `authorize` has let this peer in."""
        ref = workload_of(node.id)
        if ref is None:
            raise ValueError(f"not a node id of ours: {node.id!r}")
        key = (ref, ClientKind.of(node.user_agent))
        subscription = _Subscription(self, key, notify)
        self._open.append(subscription)
        if key not in self.snapshots:
            self.snapshots[key] = self._emit(key)
        return subscription

    def leave(self, subscription: _Subscription) -> None:
        """Forgets a stream, and its snapshot with the last stream that wanted it."""
        self._open.remove(subscription)
        if all(other.key != subscription.key for other in self._open):
            self.snapshots.pop(subscription.key, None)

    def authorize(self, node: Node, peer: Peer) -> str | None:
        """None when the peer's certificate is for the account of the workload that the node id names."""
        ref = workload_of(node.id)
        if ref is None:
            return f"node id {node.id!r} is not of the form sidecar~ADDRESS~NAME.NAMESPACE~DOMAIN"
        workload = self._scoper.mesh.workloads.get(ref) if self._scoper is not None else None
        if workload is None:
            return f"no workload {ref.namespace}/{ref.name} is registered with a sidecar"
        if workload.account != peer.spiffe_id:
            return f"{peer.spiffe_id} may not read the configuration of {ref.namespace}/{ref.name}"
        return None

    def _emit_or_keep(self, key: Key, old: Snapshot) -> Snapshot:
        try:
            new = self._emit(key)
        except InconsistentSnapshot:
            log.exception("the snapshot for %s/%s is not consistent; its proxy keeps the old one", *_name(key))
            return old
        return old if new.version == old.version else new

    def _emit(self, key: Key) -> Snapshot:
        if self._scoper is None:
            raise RuntimeError("there is no mesh yet")
        until = self._told.get(key[0], self._from_the_start)
        known = Revocations.known(self.revoked, until, self._scoper.mesh.workloads)
        revoked = replace(known, refused=tuple(WorkloadRef(*each) for each in sorted(self.barred)))
        scope = replace(self._scoper.scope(*key), revoked=revoked)
        snapshot = self._emitter.emit(scope)
        snapshot.check()
        return snapshot


def _name(key: Key) -> tuple[str, str]:
    return key[0].namespace, key[0].name
