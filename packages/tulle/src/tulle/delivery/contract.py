"""What delivery needs of the rest: snapshots to deliver, where they come from, and who may read them.

Delivery sees snapshots only, never the mesh. The types here are structural, so that any object of that shape
(in the product `tulle.xds.snapshot.Snapshot`) can be delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Resource(Protocol):
    """One xDS resource. `body` is a serialized `google.protobuf.Any`; `version` is a hash of its content."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def body(self) -> bytes: ...


class Snapshot(Protocol):
    """All that one proxy should have: type URL → resource name → resource. Never changed once handed out.

    `version` is a hash of all of it. Two snapshots that share the mapping of a type (the same object) are
    known at once not to differ in it.
    """

    @property
    def resources(self) -> Mapping[str, Mapping[str, Resource]]: ...
    @property
    def version(self) -> str: ...


ENVOY_DRAIN_SECONDS = 600.0
"""How long Envoy drains when it was told nothing."""


@dataclass(frozen=True, slots=True)
class Node:
    """Who the client says it is (`envoy.config.core.v3.Node`): a claim until it is authorized."""

    id: str
    cluster: str = ""
    user_agent: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def proxyless(self) -> bool:
        """Whether the client is a gRPC library and not a proxy."""
        return self.user_agent.startswith("gRPC")

    @property
    def drain_seconds(self) -> float:
        """How long the client goes on, by the listener that it had before, with a connection that it accepted under
        that: Envoy, for as long as it was told to drain at its start, which its bootstrap says here again.
        """
        if self.user_agent != "envoy":
            return 0.0
        said = self.metadata.get("DRAIN_SECONDS")
        known = isinstance(said, (int, float)) and 0 <= said <= ENVOY_DRAIN_SECONDS
        return float(said) if known else ENVOY_DRAIN_SECONDS  # type: ignore[arg-type]  # a number, where known


@dataclass(frozen=True, slots=True)
class Peer:
    """Who the client proved to be: `spiffe_id` is its certificate's one URI SAN, `address` is `ip:port`.

    `serial` is the certificate's serial number in hexadecimal, and `workload` the name in its subject, where whoever
    serves looks at them; otherwise they are empty.
    """

    spiffe_id: str
    address: str
    serial: str = ""
    workload: str = ""


class Subscription(Protocol):
    """One connected proxy's interest in its snapshot."""

    def current(self) -> Snapshot | None:
        """The newest snapshot, or None when there is none yet. Cheap: called at every wake-up."""

    def close(self) -> None:
        """The proxy has gone. Called exactly once."""


class SnapshotSource(Protocol):
    """Where snapshots come from (in the product, the control plane)."""

    def open(self, node: Node, peer: Peer, notify: Callable[[], None]) -> Subscription:
        """Starts to watch a proxy's snapshot.

        `notify` may be called as often as wanted, in the event loop's thread, whenever `current()` may have
        changed; calls are coalesced and never block.
        """


Authorize = Callable[[Node, Peer], str | None]
"""None when this peer may read what is meant for this node, else why not (it is sent to the peer)."""
