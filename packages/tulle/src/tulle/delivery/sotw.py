"""The state-of-the-world variant of ADS (`StreamAggregatedResources`), which proxyless gRPC speaks.

A response of a full-state type (listeners, clusters) lists all that exists of what was asked for: leaving one
out removes it. Other types are answered with what changed of what was asked for.
Source: the "Basic Protocol" section of Envoy's xDS protocol documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from tulle.delivery.contract import Resource
from tulle.delivery.order import BY_NAME_ONLY, CLUSTER, LISTENER, Step
from tulle.delivery.session import Nack, Push, Session, SotwRequest, differing

WILDCARD = "*"
FULL_STATE = frozenset({LISTENER, CLUSTER})


class SotwType:
    """One type on one state-of-the-world stream."""

    def __init__(self, first: SotwRequest) -> None:
        self._url = first.type_url
        self._names: frozenset[str] = frozenset()
        # By the protocol's legacy rule, naming nothing means everything until something is named.
        self._legacy = first.type_url not in BY_NAME_ONLY
        self._wildcard = False
        # What the client has, with the resource itself where this stream has sent it.
        self._has: dict[str, str] = {}
        self._bodies: dict[str, Resource] = {}
        self._refused: dict[str, str] = {}
        # The push in flight, without what was left since; whether that left it whole.
        self._sent: dict[str, Resource] | None = None
        self._sent_whole = True
        self._nonce = ""
        self._accepted = bool(first.version)
        self._acknowledged = False
        # The version the client brought from an earlier stream, until it was compared with ours.
        self._brought = first.version
        self._subscribe(first.names)
        self._answer_due = self._wildcard

    def receive(self, request: SotwRequest) -> Nack | None:
        """Takes in a later request of this type: its ACK or NACK, then the names it wants now.

        One that answers an older push than the last is no answer, but its names are the newest there are.
        """
        nack = None
        if self._sent is not None and request.nonce == self._nonce:
            if request.error is None:
                self._acknowledge(self._sent)
            else:
                # The culprit may be what the client has left since: then the rest is worth another try.
                if self._sent_whole:
                    self._refused.update(_versions(self._sent))
                nack = Nack(self._url, self._nonce, request.error, tuple(self._sent))
            self._sent = None
        self._subscribe(request.names)
        return nack

    def _acknowledge(self, sent: Mapping[str, Resource]) -> None:
        if self._url in FULL_STATE:
            self._has.clear()
            self._bodies.clear()
        self._has.update((name, resource.version) for name, resource in sent.items())
        self._bodies.update(sent)
        self._accepted = self._acknowledged = True

    def _subscribe(self, names: tuple[str, ...]) -> None:
        self._legacy = self._legacy and not names
        self._wildcard = self._legacy or WILDCARD in names
        self._names = frozenset(names) - {WILDCARD}
        if not self._wildcard:
            self._leave_others()

    def _leave_others(self) -> None:
        """Forgets what is not asked for now: if it is asked for again, it must be sent again."""
        for name in [name for name in self._has if name not in self._names]:
            del self._has[name]
            self._bodies.pop(name, None)
        if not self._names.issuperset(self._refused):
            self._refused = {}
        if self._sent is not None and not self._names.issuperset(self._sent):
            self._sent = {name: resource for name, resource in self._sent.items() if name in self._names}
            self._sent_whole = False

    @property
    def in_flight(self) -> bool:
        return self._sent is not None

    @property
    def refuses(self) -> bool:
        return bool(self._refused)

    @property
    def holds_back(self) -> bool:
        return bool(self._refused) and self._accepted

    def held(self) -> Mapping[str, str]:
        return self._has

    def again(self, names: Iterable[str]) -> None:
        for name in names:
            self._has.pop(name, None)
            self._bodies.pop(name, None)
            if self._sent is not None and name in self._sent:
                # What is on its way may arrive before what it is to follow.
                self._sent = {other: found for other, found in self._sent.items() if other != name}
                self._sent_whole = False

    def push(self, step: Step, wanted: Mapping[str, Resource], nonce: str) -> Push | None:
        asked = self._asked(wanted)
        if self._brought:
            self._resume(asked)
        if step is Step.MAKE:
            self._retry(asked)
            changed = differing(asked.values(), self._has, self._refused)
            if not changed and not self._answer_due:
                return None
            if self._url not in FULL_STATE:
                return self._send({resource.name: resource for resource in changed}, asked, nonce)
            # What no longer exists stays until nothing refers to it: it goes in the step that breaks.
            return self._send(asked | self._leftover(asked), asked, nonce)
        if self._url in FULL_STATE and self._leftover(asked) and not self._refused:
            return self._send(asked, asked, nonce)
        return None

    def _asked(self, wanted: Mapping[str, Resource]) -> dict[str, Resource]:
        if self._wildcard:
            return dict(wanted)
        return {name: wanted[name] for name in sorted(self._names) if name in wanted}

    def _resume(self, asked: Mapping[str, Resource]) -> None:
        """A client that comes back with the version of exactly this content has it all."""
        # A client that follows names may have dropped one and asked for it again since it got that version.
        if self._wildcard and self._brought == content_version(_versions(asked)):
            self._has = {name: resource.version for name, resource in asked.items()}
            self._bodies = dict(asked)
            self._acknowledged = True
            self._answer_due = False
        self._brought = ""

    def _retry(self, asked: Mapping[str, Resource]) -> None:
        """Forgets the refusals once any refused resource is no longer wanted as it was."""
        if any(name not in asked or asked[name].version != v for name, v in self._refused.items()):
            self._refused = {}
            # Of a client that has acknowledged nothing here it is not known what it has from before.
            self._answer_due = self._url in FULL_STATE and not self._acknowledged

    def _leftover(self, asked: Mapping[str, Resource]) -> dict[str, Resource]:
        return {name: resource for name, resource in self._bodies.items() if name not in asked}

    def _send(self, resources: dict[str, Resource], asked: Mapping[str, Resource], nonce: str) -> Push:
        after = resources if self._url in FULL_STATE else asked
        self._answer_due = False
        self._nonce = nonce
        self._sent = resources
        self._sent_whole = True
        return Push(self._url, nonce, tuple(resources.values()), version=content_version(_versions(after)))


def _versions(resources: Mapping[str, Resource]) -> list[tuple[str, str]]:
    return [(name, resource.version) for name, resource in resources.items()]


class SotwSession(Session):
    """A state-of-the-world stream."""

    def receive(self, request: SotwRequest) -> Nack | None:
        """Takes in a request. Returns the NACK if it is one of a push that was in flight."""
        state = self._types.get(request.type_url)
        if state is None:
            self._begin(SotwType(request), request.type_url, request.version)
            return None
        assert isinstance(state, SotwType)
        before = self._listeners()
        nack = state.receive(request)
        self._compare(before)
        return nack


def content_version(resources: Iterable[tuple[str, str]]) -> str:
    """One version for a set of (name, version) pairs, in any order."""
    digest = blake2b(digest_size=12)
    for name, version in sorted(resources):
        digest.update(f"{len(name)}:{name}{len(version)}:{version}".encode())
    return digest.hexdigest()
