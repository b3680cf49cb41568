"""Which proxies are connected, what each has acknowledged, and what each last refused and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tulle.delivery.contract import Node, Peer, Snapshot
from tulle.delivery.session import Nack, Session
from tulle.delivery.sotw import content_version


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type on one stream. `version` is a hash of what is acknowledged: equal content, equal version."""

    version: str
    resources: int
    in_flight: bool
    refused: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last NACK of a proxy; `at` is in seconds since 1970. It stays on record after it is resolved."""

    nack: Nack
    at: float


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """A connected proxy at one moment. `connected_at` is in seconds since 1970."""

    node: Node
    peer: Peer
    protocol: str
    connected_at: float
    pushes: int
    synced: bool
    settled: Snapshot | None
    types: dict[str, TypeStatus]
    refusal: Refusal | None
    draining: bool


@dataclass(slots=True)
class Connection:
    """What the server records of one stream. Statuses are computed from it only when somebody asks."""

    node: Node
    peer: Peer
    protocol: str
    connected_at: float
    session: Session
    refusal: Refusal | None = None

    def status(self) -> ProxyStatus:
        types = {
            url: TypeStatus(
                version=content_version(state.held().items()),
                resources=len(state.held()),
                in_flight=state.in_flight,
                refused=state.refuses,
            )
            for url, state in self.session.types.items()
        }
        return ProxyStatus(
            self.node,
            self.peer,
            self.protocol,
            self.connected_at,
            self.session.pushes,
            self.session.synced,
            self.session.settled,
            types,
            self.refusal,
            self.session.draining,
        )


@dataclass(slots=True)
class StatusRegistry:
    """All streams of one server, oldest first."""

    _connections: dict[int, Connection] = field(default_factory=dict)

    def add(self, connection: Connection) -> None:
        self._connections[id(connection)] = connection

    def remove(self, connection: Connection) -> None:
        del self._connections[id(connection)]

    def __len__(self) -> int:
        return len(self._connections)

    def settled(self) -> Iterator[tuple[Peer, Snapshot | None]]:
        """Whose proxies are connected, and which snapshot each has all of. Iterate at once, as `proxies`."""
        return ((connection.peer, connection.session.settled) for connection in list(self._connections.values()))

    def proxies(self) -> Iterator[ProxyStatus]:
        """The status of each connected proxy. Iterate at once: the set changes as streams come and go."""
        return (connection.status() for connection in list(self._connections.values()))
