"""Transcripts of state-of-the-world streams, as Envoy and proxyless gRPC clients hold them."""

from __future__ import annotations

from delivery_fakes import CDS, EDS, LDS, RDS, show, snapshot

from tulle.delivery.session import Push, SotwRequest
from tulle.delivery.sotw import SotwSession


class Client:
    """Feeds requests to a session and returns the next push as text."""

    def __init__(self, **first: str) -> None:
        self.session = SotwSession()
        self.session.update(snapshot(**first))
        self.names: dict[str, tuple[str, ...]] = {}
        self.pushes: dict[str, Push] = {}
        self.last: Push | None = None

    def next(self) -> str | None:
        push = self.session.next_push()
        if push is not None:
            self.last = self.pushes[push.type_url] = push
        return show(push)

    def ask(self, type_url: str, *names: str, version: str = "") -> str | None:
        self.names[type_url] = names
        push = self.pushes.get(type_url)
        self.session.receive(SotwRequest(type_url, names, version, push.nonce if push else ""))
        return self.next()

    def ack(self, error: str | None = None) -> str | None:
        assert self.last is not None
        url = self.last.type_url
        self.session.receive(SotwRequest(url, self.names[url], self.last.version, self.last.nonce, error))
        return self.next()

    def change(self, **types: str) -> str | None:
        self.session.update(snapshot(**types))
        return self.next()


def test_a_proxyless_client_walks_from_listener_to_endpoints() -> None:
    client = Client(LDS="svc:801 other1", RDS="r1", CDS="c1 d1", EDS="c1 d1")
    assert client.ask(LDS, "svc:80") == "LDS svc:801", "only the target it dials"
    assert client.ack() is None
    assert client.ask(RDS, "r") == "RDS r1"
    assert client.ack() is None
    assert client.ask(CDS, "c") == "CDS c1"
    assert client.ack() is None
    assert client.ask(EDS, "c") == "EDS c1"
    assert client.ack() is None
    assert client.session.synced
    assert client.ask(CDS, "c", "d") == "CDS c1 d1", "clusters are always listed in full"
    assert client.ack() is None
    assert client.ask(EDS, "c", "d") == "EDS d1", "endpoints only where they are new"


def test_a_wildcard_lists_everything_every_time() -> None:
    client = Client(CDS="a1 b1")
    assert client.ask(CDS) == "CDS a1 b1"
    client.ack()
    assert client.change(CDS="a2 b1") == "CDS a2 b1"
    assert client.ack() is None


def test_an_empty_wildcard_is_answered() -> None:
    client = Client()
    assert client.ask(LDS) == "LDS"
    assert client.ack() is None


def test_a_cluster_is_left_out_only_after_the_routes_moved() -> None:
    client = Client(CDS="old1", RDS="r1")
    client.ask(CDS)
    client.ack()
    client.ask(RDS, "r")
    client.ack()
    assert client.change(CDS="new1", RDS="r2") == "CDS new1 old1"
    assert client.ack() == "RDS r2"
    assert client.ack() == "CDS new1"
    assert client.ack() is None
    assert client.session.synced


def test_stale_requests_are_ignored() -> None:
    client = Client(EDS="a1 b1")
    client.ask(EDS, "a")
    client.ack()
    first = client.last
    assert first is not None
    assert client.change(EDS="a2 b1") == "EDS a2"
    client.session.receive(SotwRequest(EDS, ("a", "b"), first.version, first.nonce))
    assert client.next() is None, "it answers an older push: the last one is still in flight"
    client.names[EDS] = ("a", "b")
    assert client.ack() == "EDS b1"


def test_names_may_change_before_the_first_answer() -> None:
    client = Client()
    client.session = SotwSession()
    client.ask(EDS, "a")
    client.ask(EDS, "a", "b")
    assert client.change(EDS="a1 b1") == "EDS a1 b1"


def test_a_reconnect_with_the_same_content_sends_nothing() -> None:
    client = Client(CDS="a1 b1")
    client.ask(CDS)
    assert client.last is not None
    version = client.last.version
    again = Client(CDS="b1 a1")
    assert again.ask(CDS, version=version) is None
    assert again.session.synced
    changed = Client(CDS="a1 b2")
    assert changed.ask(CDS, version=version) == "CDS a1 b2"


def test_a_reconnect_by_names_is_answered_in_full() -> None:
    """The version does not tell which of the names the client still has."""
    client = Client(EDS="a1 b1")
    client.ask(EDS, "a")
    assert client.last is not None
    again = Client(EDS="a1 b1")
    assert again.ask(EDS, "a", version=client.last.version) == "EDS a1"


def test_what_is_asked_for_again_is_sent_again() -> None:
    client = Client(EDS="a1 b1")
    client.ask(EDS, "a", "b")
    client.ack()
    assert client.ask(EDS, "b") is None
    assert client.ask(EDS, "a", "b") == "EDS a1"


def test_a_refused_push_is_not_repeated_until_it_changes() -> None:
    client = Client(CDS="a1", RDS="r1")
    client.ask(CDS)
    client.ack()
    client.ask(RDS, "r")
    client.ack()
    assert client.change(CDS="a2", RDS="r2") == "CDS a2"
    assert client.ack(error="bad") is None
    assert not client.session.synced
    assert client.change(CDS="a3", RDS="r2") == "CDS a3"
    assert client.ack() == "RDS r2"
    assert client.ack() is None
    assert client.session.synced


def test_naming_something_ends_the_legacy_wildcard() -> None:
    client = Client(CDS="a1 b1")
    assert client.ask(CDS) == "CDS a1 b1"
    client.ack()
    assert client.ask(CDS, "a") is None
    assert client.change(CDS="a1 b2") is None
    assert client.change(CDS="a2 b2") == "CDS a2"
    client.ack()
    assert client.ask(CDS) is None, "now an empty list means nothing"
    assert client.change(CDS="a3 b3") is None
