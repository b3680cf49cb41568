"""What both variants of ADS share: requests and pushes as data, and the decision what to push next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tulle.delivery.contract import Resource, Snapshot
from tulle.delivery.order import CLUSTER, ENDPOINT, LISTENER, Step, steps

NOTHING: Mapping[str, Resource] = {}


@dataclass(frozen=True, slots=True)
class Nack:
    """A push the client refused: its type and nonce, the reason given, the resources that were in it."""

    type_url: str
    nonce: str
    detail: str
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """`envoy.service.discovery.v3.DeltaDiscoveryRequest` without its node. `error` is None for an ACK."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] | None = None
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """`envoy.service.discovery.v3.DiscoveryRequest` without its node. `error` is None for an ACK."""

    type_url: str
    names: tuple[str, ...] = ()
    version: str = ""
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """One response to send. `removed` is for delta only, `version` is that of the whole response (SotW)."""

    type_url: str
    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()
    version: str = ""


class TypeState(Protocol):
    """One type on one stream: what the client wants, what it has, what is on its way."""

    @property
    def in_flight(self) -> bool:
        """Whether a push awaits its ACK or NACK: until then there is no other for this type."""

    @property
    def refuses(self) -> bool:
        """Whether the client has refused something that it should have now."""

    @property
    def holds_back(self) -> bool:
        """Whether it refuses something and has older contents of the type, which work."""

    def push(self, step: Step, wanted: Mapping[str, Resource], nonce: str) -> Push | None:
        """The push that this step needs, now in flight, or None when the client has all of it."""

    def held(self) -> Mapping[str, str]:
        """Name → version of what the client has acknowledged."""

    def again(self, names: Iterable[str]) -> None:
        """Has those of these resources that the client asked for sent once more, changed or not."""


class Session:
    """The pushing half of an ADS stream. Pure: no I/O, no clock; the caller feeds requests and sends pushes.

    The order of `order.steps` is kept by finishing one step before the next begins: while a push of an
    earlier step is in flight, nothing of a later step is sent. A type has at most one push in flight;
    changes that arrive meanwhile are merged into its next one.

    Endpoints alone do not wait for clusters: Envoy acknowledges a changed cluster only when it has warmed up,
    for which it must be sent the cluster's endpoints again without asking. (A cluster's assignment has its name.)
    Nor do they wait for a cluster that was refused; all else does, if there is something older that works.

    A client that `drains` judges connections by the listeners that it accepted them under, for a while after it has
    acknowledged others: what it has acknowledged settles when the caller, who has the clock, says that it `drained`.
    """

    def __init__(self) -> None:
        self.drains = False
        self._displaced = False
        self._drains_begun = 0
        # What was acknowledged when each drain under way began, or since then without another; oldest first.
        self._draining: list[Snapshot] = []
        self._types: dict[str, TypeState] = {}
        self._snapshot: Snapshot | None = None
        self._settled: Snapshot | None = None
        self._synced = False
        self._nonce = 0

    def update(self, snapshot: Snapshot | None) -> None:
        """Makes `snapshot` what the client should have. None (not known yet) leaves everything as it is."""
        if snapshot is not None and snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._synced = False

    def next_push(self) -> Push | None:
        """What to send now, or None when there is nothing to send until a request or an update comes."""
        self._synced = False
        if self._snapshot is None:
            return None
        endpoints_only = False
        for type_url, step in steps(list(self._types)):
            state = self._types[type_url]
            if endpoints_only and (type_url, step) != (ENDPOINT, Step.MAKE):
                return None
            if state.in_flight:
                if (type_url, step) != (CLUSTER, Step.MAKE):
                    return None
                endpoints_only = True
                continue
            wanted = self._snapshot.resources.get(type_url, NOTHING)
            push = state.push(step, wanted, str(self._nonce + 1))
            if push is not None:
                self._nonce += 1
                if type_url == CLUSTER and ENDPOINT in self._types:
                    self._types[ENDPOINT].again(_replaced(push.resources, state.held()))
                return push
            # New routes over clusters that were refused would break requests that work now.
            if type_url == CLUSTER and state.holds_back:
                endpoints_only = True
        if not any(state.refuses for state in self._types.values()):
            self._acknowledged(self._snapshot)
        return None

    def _acknowledged(self, snapshot: Snapshot) -> None:
        if self.drains and self._displaced:
            self._displaced = False
            self._drains_begun += 1
            self._draining.append(snapshot)
        elif self._draining:
            self._draining[-1] = snapshot
        else:
            self._settled = snapshot
        self._synced = bool(self._types) and not self._draining

    def drains_begun(self) -> int:
        """How many drains have begun since this was asked last; each ends with a call of `drained`."""
        begun, self._drains_begun = self._drains_begun, 0
        return begun

    def drained(self) -> None:
        """The oldest drain under way has ended."""
        self._settled = self._draining.pop(0)

    def _listeners(self) -> Mapping[str, str]:
        """What the client has of them; nothing where that does not matter."""
        return dict(self._types[LISTENER].held()) if self.drains and LISTENER in self._types else {}

    def _compare(self, before: Mapping[str, str]) -> None:
        """Notes whether the client has given up any of these listeners since."""
        after = self._listeners()
        self._displaced = self._displaced or any(after.get(name) != version for name, version in before.items())

    def _begin(self, state: TypeState, url: str, brought: object) -> None:
        """A client that comes back with listeners may have just got them."""
        self._types[url] = state
        self._displaced = self._displaced or (url == LISTENER and bool(brought))

    @property
    def types(self) -> Mapping[str, TypeState]:
        """The state of each type the client has asked for."""
        return self._types

    @property
    def pushes(self) -> int:
        """How many pushes the stream has had."""
        return self._nonce

    @property
    def settled(self) -> Snapshot | None:
        """The last snapshot of which the client has acknowledged everything that it asked for, and nothing older is
        in force.
        """
        return self._settled

    @property
    def draining(self) -> bool:
        """Whether what it has acknowledged waits for drains under way."""
        return bool(self._draining)

    @property
    def synced(self) -> bool:
        """Whether the client has all of the newest snapshot that it asked for, and nothing older is in force."""
        return self._synced


def _replaced(pushed: Iterable[Resource], held: Mapping[str, str]) -> list[str]:
    return [each.name for each in pushed if held.get(each.name) not in (None, each.version)]


def differing(
    wanted: Iterable[Resource], have: Mapping[str, str | None], refused: Mapping[str, str | None]
) -> list[Resource]:
    """The resources whose version the client neither has nor has refused."""
    return [
        resource
        for resource in wanted
        if have.get(resource.name) != resource.version and refused.get(resource.name) != resource.version
    ]
