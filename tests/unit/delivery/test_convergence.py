"""In any order of acknowledgements, refusals, reconnects and changes, the client ends with the snapshot."""

from __future__ import annotations

from delivery_fakes import CDS, EDS, FakeResource, FakeSnapshot
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tulle.delivery.delta import DeltaSession
from tulle.delivery.session import DeltaRequest, Push, SotwRequest
from tulle.delivery.sotw import SotwSession

NAMES = st.sampled_from("abcd")
TYPES = st.sampled_from([CDS, EDS])
BAD = "bad"
CONTENT = st.fixed_dictionaries(
    {url: st.dictionaries(NAMES, st.sampled_from(["1", "2", "3", BAD]), max_size=4) for url in (CDS, EDS)}
)


def make(content: dict[str, dict[str, str]]) -> FakeSnapshot:
    return FakeSnapshot(
        {url: {name: FakeResource(name, v) for name, v in types.items()} for url, types in content.items()}
    )


class Converges(RuleBasedStateMachine):
    """A client with a queue of unread pushes against a session; CDS by wildcard, EDS by name."""

    @initialize(content=CONTENT)
    def start(self, content: dict[str, dict[str, str]]) -> None:
        self.has: dict[str, dict[str, str]] = {CDS: {}, EDS: {}}
        self.names: set[str] = set()
        self.content = content
        self.connect()

    def connect(self) -> None:
        raise NotImplementedError

    def apply(self, push: Push) -> None:
        raise NotImplementedError

    def tell_names(self, subscribe: set[str], unsubscribe: set[str]) -> None:
        raise NotImplementedError

    def pump(self) -> None:
        while (push := self.session.next_push()) is not None:
            self.queue.append(push)

    @rule(content=CONTENT)
    def change(self, content: dict[str, dict[str, str]]) -> None:
        self.content = content
        self.session.update(make(content))
        self.pump()

    @rule()
    def read_one(self) -> None:
        if self.queue:
            self.apply(self.queue.pop(0))
            self.pump()

    @rule(name=NAMES)
    def follow(self, name: str) -> None:
        if name not in self.names:
            self.names.add(name)
            self.tell_names({name}, set())
            self.pump()

    @rule(name=NAMES)
    def leave(self, name: str) -> None:
        if name in self.names:
            self.names.discard(name)
            self.has[EDS].pop(name, None)
            self.tell_names(set(), {name})
            self.pump()

    @rule()
    def reconnect(self) -> None:
        self.connect()

    @invariant()
    def at_most_one_push_of_a_type_is_in_flight(self) -> None:
        urls = [push.type_url for push in getattr(self, "queue", [])]
        assert len(urls) == len(set(urls))

    def teardown(self) -> None:
        if not hasattr(self, "content"):
            return
        for _ in range(50):
            self.read_one()
        self.check_good_part()
        good = {
            url: {name: "1" if version == BAD else version for name, version in types.items()}
            for url, types in self.content.items()
        }
        self.change(good)
        for _ in range(50):
            self.read_one()
        assert not self.queue
        assert self.session.synced
        assert self.has[CDS] == good[CDS]
        self.check_named({name: v for name, v in good[EDS].items() if name in self.names})

    def check_named(self, wanted: dict[str, str]) -> None:
        assert self.has[EDS] == wanted

    def check_good_part(self) -> None:
        """What a client has while something is still refused."""


class DeltaConverges(Converges):
    def connect(self) -> None:
        self.session = DeltaSession()
        self.queue: list[Push] = []
        self.session.update(make(self.content))
        self.session.receive(DeltaRequest(CDS, initial_versions=dict(self.has[CDS])))
        names = tuple(sorted(self.names))
        self.session.receive(DeltaRequest(EDS, names, initial_versions=dict(self.has[EDS])))
        self.pump()

    def apply(self, push: Push) -> None:
        bad = any(resource.version == BAD for resource in push.resources)
        if not bad:
            wanted = [r for r in push.resources if push.type_url == CDS or r.name in self.names]
            self.has[push.type_url].update((r.name, r.version) for r in wanted)
            for name in push.removed:
                self.has[push.type_url].pop(name, None)
        self.session.receive(DeltaRequest(push.type_url, nonce=push.nonce, error="no" if bad else None))

    def tell_names(self, subscribe: set[str], unsubscribe: set[str]) -> None:
        self.session.receive(DeltaRequest(EDS, tuple(subscribe), tuple(unsubscribe)))

    def check_good_part(self) -> None:
        for url, resources in self.content.items():
            for name, version in resources.items():
                if version != BAD and (url == CDS or name in self.names):
                    assert self.has[url][name] == version


class SotwConverges(Converges):
    def connect(self) -> None:
        self.session = SotwSession()
        self.queue: list[Push] = []
        self.nonce = {CDS: "", EDS: ""}
        self.version = getattr(self, "version", {CDS: "", EDS: ""})
        self.session.update(make(self.content))
        self.send(CDS)
        self.send(EDS)
        self.pump()

    def send(self, url: str, error: str | None = None) -> None:
        names = tuple(sorted(self.names)) if url == EDS else ()
        self.session.receive(SotwRequest(url, names, self.version[url], self.nonce[url], error))

    def apply(self, push: Push) -> None:
        self.nonce[push.type_url] = push.nonce
        if any(resource.version == BAD for resource in push.resources):
            self.send(push.type_url, "no")
            return
        if push.type_url == CDS:
            self.has[CDS].clear()
        wanted = [r for r in push.resources if push.type_url == CDS or r.name in self.names]
        self.has[push.type_url].update((r.name, r.version) for r in wanted)
        self.version[push.type_url] = push.version
        self.send(push.type_url)

    def tell_names(self, subscribe: set[str], unsubscribe: set[str]) -> None:
        self.send(EDS)

    def check_named(self, wanted: dict[str, str]) -> None:
        # This variant cannot say that an endpoint set has gone; its cluster goes instead.
        assert self.has[EDS].items() >= wanted.items()


DeltaConverges.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
SotwConverges.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestDelta = DeltaConverges.TestCase
TestSotw = SotwConverges.TestCase
