"""The incremental variant of ADS (`DeltaAggregatedResources`): only what changed, by name and version.

Source: the "Incremental xDS" section of Envoy's xDS protocol documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tulle.delivery.contract import Resource
from tulle.delivery.order import BY_NAME_ONLY, Step
from tulle.delivery.session import DeltaRequest, Nack, Push, Session, differing

WILDCARD = "*"


class DeltaType:
    """One type on one delta stream."""

    def __init__(self, first: DeltaRequest) -> None:
        self._url = first.type_url
        self._names: set[str] = set()
        # By the protocol's legacy rule, a first request that names nothing subscribes to everything.
        self._wildcard = not first.subscribe and first.type_url not in BY_NAME_ONLY
        # Name → version that the client has; None: the client was told that it does not exist.
        self._has: dict[str, str | None] = {}
        self._refused: dict[str, str | None] = {}
        # Groups of names from pushes that were refused, to be pushed one group at a time.
        self._suspects: list[frozenset[str]] = []
        # The push in flight, without what was subscribed or left since; whether that left it whole.
        self._sent: dict[str, str | None] | None = None
        self._sent_whole = True
        self._nonce = ""
        # Whether the client ever had all that was wanted of it, so that there is something to hold on to.
        self._was_whole = False
        # Everything was compared with this mapping and nothing was left to send.
        self._matches: Mapping[str, Resource] | None = None
        # Even when there is nothing, a wildcard subscriber waits for a first answer.
        self._answer_due = self._wildcard
        self._subscribe(first)
        kept = (first.initial_versions or {}).items()
        self._has.update((name, version) for name, version in kept if self._wildcard or name in self._names)
        self._was_whole = bool(self._has)
        self._answer_due = self._answer_due and not self._has

    def receive(self, request: DeltaRequest) -> Nack | None:
        """Takes in a later request of this type: its ACK or NACK, then its changes of subscription."""
        nack = None
        if request.nonce and request.nonce == self._nonce and self._sent is not None:
            if request.error is None:
                self._acknowledge(self._sent)
            else:
                nack = Nack(self._url, self._nonce, request.error, tuple(self._sent))
                self._refuse(self._sent)
            self._sent = None
        self._subscribe(request)
        return nack

    def _acknowledge(self, sent: Mapping[str, str | None]) -> None:
        self._has.update(sent)
        for name in [name for name, version in sent.items() if version is None and name not in self._names]:
            del self._has[name]

    def _refuse(self, sent: Mapping[str, str | None]) -> None:
        """Takes note of a refusal: final for one resource, else each half is tried by itself.

        A client may refuse a push whole for one resource in it, and the others should not have to wait for that.
        """
        names = list(sent)
        if len(names) > 1 and None not in sent.values():
            middle = len(names) // 2
            self._suspects[:0] = [frozenset(names[:middle]), frozenset(names[middle:])]
        elif self._sent_whole:
            # Otherwise the culprit may be what the client has left since.
            self._refused.update(sent)

    def _subscribe(self, request: DeltaRequest) -> None:
        if request.subscribe or request.unsubscribe:
            self._matches = None
        for name in request.subscribe:
            if name == WILDCARD:
                self._answer_due = self._answer_due or not self._wildcard
                self._wildcard = True
            else:
                self._names.add(name)
                # Subscribing again means that the client wants to be told again, whatever it had.
                self._forget(name)
        for name in request.unsubscribe:
            if name == WILDCARD:
                self._wildcard = False
                for other in [*self._has, *(self._sent or ())]:
                    if other not in self._names:
                        self._forget(other)
            else:
                self._names.discard(name)
                # Still covered by the wildcard: the protocol asks to send it (or its absence) once more.
                self._forget(name)
                if self._wildcard:
                    self._has[name] = ""

    def _forget(self, name: str) -> None:
        self._has.pop(name, None)
        if name in self._refused:
            self._refused.clear()
        if self._sent is not None and name in self._sent:
            del self._sent[name]
            self._sent_whole = False

    @property
    def in_flight(self) -> bool:
        return self._sent is not None

    @property
    def refuses(self) -> bool:
        return bool(self._refused)

    @property
    def holds_back(self) -> bool:
        return bool(self._refused) and self._was_whole

    def held(self) -> Mapping[str, str]:
        return {name: version for name, version in self._has.items() if version}

    def again(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._names:
                self._forget(name)
                self._matches = None

    def push(self, step: Step, wanted: Mapping[str, Resource], nonce: str) -> Push | None:
        if self._matches is wanted and not self._answer_due:
            return None
        if step is Step.MAKE:
            self._retry(wanted)
            changed, removed = self._chosen(self._changed(wanted)), tuple[str, ...]()
            if not changed and not self._answer_due:
                self._was_whole = self._was_whole or not self._refused
                return None
        else:
            changed, removed = [], self._gone(wanted)
            if not removed:
                self._matches = wanted
                return None
        self._answer_due = False
        self._matches = None
        self._nonce = nonce
        self._sent = {resource.name: resource.version for resource in changed} | dict.fromkeys(removed)
        self._sent_whole = True
        return Push(self._url, nonce, tuple(changed), tuple(removed))

    def _retry(self, wanted: Mapping[str, Resource]) -> None:
        """Forgets the refusals once any refused resource is no longer wanted as it was."""
        for name, version in self._refused.items():
            now = wanted[name].version if name in wanted else None
            if now != version:
                self._refused.clear()
                return

    def _changed(self, wanted: Mapping[str, Resource]) -> list[Resource]:
        if self._wildcard:
            return differing(wanted.values(), self._has, self._refused)
        subscribed = (wanted[name] for name in sorted(self._names) if name in wanted)
        return differing(subscribed, self._has, self._refused)

    def _chosen(self, changed: list[Resource]) -> list[Resource]:
        """The first group of suspects among what changed, or all of it when there are none."""
        while self._suspects:
            group = self._suspects.pop(0)
            suspected = [resource for resource in changed if resource.name in group]
            if suspected:
                return suspected
        return changed

    def _gone(self, wanted: Mapping[str, Resource]) -> tuple[str, ...]:
        """What the client has, or asked for and was not yet told about, that does not exist."""
        absent = {name for name, version in self._has.items() if version is not None and name not in wanted}
        absent.update(name for name in self._names if name not in wanted and name not in self._has)
        refused = {name for name, version in self._refused.items() if version is None}
        return tuple(sorted(absent - refused))


class DeltaSession(Session):
    """An incremental stream."""

    def receive(self, request: DeltaRequest) -> Nack | None:
        """Takes in a request. Returns the NACK if it is one of a push that was in flight."""
        state = self._types.get(request.type_url)
        if state is None:
            self._begin(DeltaType(request), request.type_url, request.initial_versions)
            return None
        assert isinstance(state, DeltaType)
        before = self._listeners()
        nack = state.receive(request)
        self._compare(before)
        return nack
