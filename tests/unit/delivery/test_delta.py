"""Transcripts of incremental streams: what is asked, what is pushed, in what order."""

from __future__ import annotations

from delivery_fakes import CDS, EDS, LDS, RDS, show, snapshot

from tulle.delivery.delta import DeltaSession
from tulle.delivery.session import DeltaRequest, Push


class Client:
    """Feeds requests to a session and returns the next push as text."""

    def __init__(self, **first: str) -> None:
        self.session = DeltaSession()
        self.last: Push | None = None
        self.session.update(snapshot(**first))

    def next(self) -> str | None:
        push = self.session.next_push()
        self.last = push or self.last
        return show(push)

    def ask(self, type_url: str, *names: str, have: dict[str, str] | None = None) -> str | None:
        self.session.receive(DeltaRequest(type_url, subscribe=names, initial_versions=have))
        return self.next()

    def drop(self, type_url: str, *names: str) -> str | None:
        self.session.receive(DeltaRequest(type_url, unsubscribe=names))
        return self.next()

    def ack(self) -> str | None:
        assert self.last is not None
        self.session.receive(DeltaRequest(self.last.type_url, nonce=self.last.nonce))
        return self.next()

    def nack(self, detail: str = "bad") -> str | None:
        assert self.last is not None
        nack = self.session.receive(DeltaRequest(self.last.type_url, nonce=self.last.nonce, error=detail))
        assert nack is not None
        assert nack.detail == detail
        return self.next()

    def change(self, **types: str) -> str | None:
        self.session.update(snapshot(**types))
        return self.next()


def started(**types: str) -> Client:
    """A client that has been given all clusters, their endpoints, all listeners and the route `r`."""
    client = Client(**types)
    client.ask(CDS)
    client.ack()
    client.ask(EDS, *(resource for resource in client.session._snapshot.resources.get(EDS, {})))
    client.ack()
    client.ask(LDS)
    client.ack()
    client.ask(RDS, "r")
    client.ack()
    assert client.session.synced
    return client


def test_a_start_goes_cluster_endpoint_listener_route() -> None:
    client = Client(CDS="a1", EDS="a1", LDS="l1", RDS="r1")
    assert client.ask(CDS) == "CDS a1"
    assert client.ack() is None
    assert client.ask(EDS, "a") == "EDS a1"
    assert client.ack() is None
    assert client.ask(LDS) == "LDS l1"
    assert client.ask(RDS, "r") is None
    assert client.ack() == "RDS r1"
    assert not client.session.synced
    assert client.ack() is None
    assert client.session.synced


def test_an_empty_wildcard_is_answered_once() -> None:
    client = Client()
    assert client.ask(LDS) == "LDS"
    assert client.ack() is None
    assert client.change(CDS="a1") is None
    assert client.change(LDS="l1") == "LDS l1"


def test_an_empty_list_of_names_is_not_a_wildcard_for_endpoints() -> None:
    client = Client(EDS="a1 b1")
    assert client.ask(EDS) is None
    assert client.ask(EDS, "b") == "EDS b1"


def test_nothing_is_sent_before_there_is_a_snapshot() -> None:
    client = Client()
    client.session = DeltaSession()
    assert client.ask(CDS) is None
    assert client.change(CDS="a1") == "CDS a1"


def test_star_can_be_subscribed_and_unsubscribed() -> None:
    client = Client(CDS="a1 b1")
    assert client.ask(CDS, "a") == "CDS a1"
    client.ack()
    assert client.ask(CDS, "*") == "CDS b1"
    client.ack()
    assert client.drop(CDS, "*") is None
    assert client.change(CDS="a1 b2") is None, "b is no longer subscribed"
    assert client.change(CDS="a2 b2") == "CDS a2"


def test_leaving_a_name_under_the_wildcard_sends_it_again() -> None:
    client = Client(CDS="a1 b1")
    client.ask(CDS, "*", "a", "gone")
    assert client.ack() == "CDS -gone"
    assert client.ack() is None
    assert client.drop(CDS, "a") == "CDS a1"
    client.ack()
    assert client.drop(CDS, "gone") == "CDS -gone"
    assert client.ack() is None


def test_a_reconnect_sends_only_what_changed() -> None:
    client = Client(CDS="a1 b2", EDS="a1", LDS="l1")
    assert client.ask(CDS, have={"a": "1", "b": "1", "c": "1"}) == "CDS b2"
    assert client.ask(EDS, "a", have={"a": "1"}) is None
    assert client.ask(LDS, have={"l": "1"}) is None
    assert client.ack() == "CDS -c", "what was removed meanwhile, last"
    assert client.ack() is None
    assert client.session.synced


def test_a_reconnect_with_nothing_changed_sends_nothing() -> None:
    client = Client(CDS="a1", LDS="l1")
    assert client.ask(CDS, have={"a": "1"}) is None
    assert client.ask(LDS, have={"l": "1"}) is None
    assert client.session.synced


def test_a_subscription_is_answered_even_when_the_client_had_it() -> None:
    client = Client(EDS="a1")
    client.ask(EDS, "a")
    client.ack()
    assert client.ask(EDS, "a") == "EDS a1"


def test_a_name_that_does_not_exist_is_told_once_and_followed() -> None:
    client = Client(RDS="other1")
    assert client.ask(RDS, "r") == "RDS -r"
    assert client.ack() is None
    assert client.change(RDS="other2") is None
    assert client.change(RDS="r1") == "RDS r1"
    client.ack()
    assert client.change(RDS="") == "RDS -r"


def test_changes_are_made_before_and_broken_after_what_refers_to_them() -> None:
    client = started(CDS="old1", EDS="old1", LDS="l1 m1", RDS="r1")
    assert client.change(CDS="new1", EDS="new1", LDS="l1", RDS="r2") == "CDS new1"
    client.session.receive(DeltaRequest(EDS, subscribe=("new",)))
    assert client.ack() == "EDS new1"
    assert client.ack() == "RDS r2"
    assert client.ack() == "LDS -m"
    assert client.ack() == "CDS -old"
    client.session.receive(DeltaRequest(EDS, unsubscribe=("old",)))
    assert client.ack() is None
    assert client.session.synced


def test_a_changed_cluster_gets_its_endpoints_again_before_it_is_acknowledged() -> None:
    client = started(CDS="a1 b1", EDS="a1 b1", RDS="r1")
    assert client.change(CDS="a2 b1", EDS="a1 b1", RDS="r2") == "CDS a2"
    clusters = client.last
    assert client.next() == "EDS a1"
    assert client.ack() is None, "routes wait for the clusters, which are warming"
    client.last = clusters
    assert client.ack() == "RDS r2"
    assert client.ack() is None
    assert client.session.synced


def test_one_push_in_flight_and_changes_merge() -> None:
    client = started(CDS="a1", LDS="l1", RDS="r1")
    assert client.change(CDS="a2", LDS="l1", RDS="r1") == "CDS a2"
    assert client.change(CDS="a3", LDS="l1", RDS="r1") is None
    assert client.change(CDS="a4", LDS="l1", RDS="r1") is None
    assert client.ack() == "CDS a4"


def test_going_back_while_in_flight_sends_the_old_version_again() -> None:
    client = started(CDS="a1", RDS="r1")
    first = client.session._snapshot
    assert client.change(CDS="a2", RDS="r1") == "CDS a2"
    client.session.update(first)
    assert client.ack() == "CDS a1"


def test_a_refused_push_is_not_repeated_until_it_changes() -> None:
    client = started(CDS="a1 b1", LDS="l1", RDS="r1")
    assert client.change(CDS="a1 b2", LDS="l1", RDS="r2") == "CDS b2"
    assert client.nack() is None, "routes stay back: they may need the clusters that were refused"
    assert not client.session.synced
    assert client.change(CDS="a1 b3", LDS="l1", RDS="r2") == "CDS b3"
    assert client.ack() == "RDS r2"
    assert client.ack() is None
    assert client.session.synced


def test_a_refusal_ends_when_the_old_version_returns() -> None:
    client = started(CDS="a1", RDS="r1")
    assert client.change(CDS="a2", RDS="r1") == "CDS a2"
    client.nack()
    assert client.change(CDS="a1", RDS="r2") == "RDS r2"
    client.ack()
    assert client.session.synced


def test_of_a_refused_push_the_good_part_is_delivered() -> None:
    client = Client(CDS="a1 b1 bad1 d1 e1")
    assert client.ask(CDS) == "CDS a1 b1 bad1 d1 e1"
    assert client.nack() == "CDS a1 b1"
    assert client.ack() == "CDS bad1 d1 e1"
    assert client.nack() == "CDS bad1"
    assert client.nack() == "CDS d1 e1"
    assert client.ack() is None
    assert client.session.types[CDS].held() == dict.fromkeys("abde", "1")
    assert not client.session.synced
    assert client.change(CDS="a1 b1 bad2 d1 e1") == "CDS bad2"
    assert client.ack() is None
    assert client.session.synced


def test_leaving_the_culprit_ends_the_refusal() -> None:
    client = Client(EDS="a1 b1")
    assert client.ask(EDS, "a", "b") == "EDS a1 b1"
    assert client.drop(EDS, "b") is None
    assert client.nack() == "EDS a1", "the culprit may be what was left"


def test_a_first_refusal_holds_nothing_back() -> None:
    client = Client(CDS="a1", LDS="l1")
    client.ask(CDS)
    client.ask(LDS)
    assert client.nack() == "LDS l1", "there is no older state to keep working"


def test_endpoints_are_kept_current_while_a_cluster_is_refused() -> None:
    client = started(CDS="a1", EDS="a1", RDS="r1")
    assert client.change(CDS="a2", EDS="a1", RDS="r2") == "CDS a2"
    assert client.nack() == "EDS a1", "sent again for the cluster that was to warm up"
    assert client.ack() is None
    assert client.change(CDS="a2", EDS="a2", RDS="r2") == "EDS a2"
    assert client.ack() is None
    assert not client.session.synced


def test_a_partial_first_refusal_holds_nothing_back() -> None:
    client = Client(CDS="a1 bad1", LDS="l1")
    client.ask(CDS)
    client.ask(LDS)
    assert client.nack() == "CDS a1"
    assert client.ack() == "CDS bad1"
    assert client.nack() == "LDS l1"
    assert client.ack() is None
    assert client.change(CDS="a1 bad2", LDS="l2") == "CDS bad2"
    assert client.nack() == "LDS l2"


def test_a_stale_nonce_acknowledges_nothing() -> None:
    client = Client(CDS="a1")
    client.ask(CDS)
    client.session.receive(DeltaRequest(CDS, nonce="999"))
    assert client.session.types[CDS].in_flight
    client.session.receive(DeltaRequest(CDS, nonce="999", error="x"))
    assert client.session.types[CDS].in_flight
    assert client.ack() is None
    assert client.session.types[CDS].held() == {"a": "1"}


def test_a_late_answer_to_an_older_nonce_is_ignored() -> None:
    client = started(CDS="a1", RDS="r1")
    client.change(CDS="a2", RDS="r1")
    old = client.last
    assert old is not None
    client.session.update(snapshot(CDS="a3", RDS="r1"))
    client.ack()
    client.session.receive(DeltaRequest(CDS, nonce=old.nonce, error="late"))
    assert client.ack() is None
    assert client.session.synced


def drained(client: Client) -> str | None:
    client.session.drained()
    return client.next()


def test_what_a_draining_client_acknowledges_counts_when_it_has_drained() -> None:
    client = started(LDS="l1 m1", RDS="r1")
    client.session.drains = True
    assert client.change(LDS="l1 m1 n1", RDS="r2") == "LDS n1"
    assert client.ack() == "RDS r2"
    assert client.ack() is None
    assert client.session.synced, "no listener that it had has changed"
    assert client.change(LDS="l2 m1 n1", RDS="r3") == "LDS l2"
    assert client.ack() == "RDS r3"
    assert client.session.drains_begun() == 0, "what replaces the listener may wait for these routes"
    assert client.ack() is None
    assert client.session.drains_begun() == 1
    assert client.session.draining
    assert not client.session.synced
    assert client.session.settled is not client.session._snapshot
    assert client.change(LDS="l2 m1 n1", RDS="r4") == "RDS r4"
    assert client.ack() is None
    assert client.session.drains_begun() == 0, "nothing more is given up"
    assert not client.session.synced
    assert drained(client) is None
    assert client.session.synced
    assert client.session.settled is client.session._snapshot


def test_each_drain_settles_what_it_was_begun_for() -> None:
    client = started(LDS="l1", RDS="r1")
    client.session.drains = True
    client.change(LDS="l2", RDS="r1")
    client.ack()
    first = client.session._snapshot
    assert client.change(RDS="r1") == "LDS -l"
    client.ack()
    assert client.session.drains_begun() == 2
    drained(client)
    assert client.session.settled is first
    assert not client.session.synced
    drained(client)
    assert client.session.settled is client.session._snapshot
    assert client.session.synced


def test_a_draining_client_that_comes_back_with_listeners_may_have_just_got_them() -> None:
    client = Client(LDS="l1")
    client.session.drains = True
    assert client.ask(LDS, have={"l": "1"}) is None
    assert client.session.drains_begun() == 1
    assert not client.session.synced
    drained(client)
    assert client.session.synced
