"""How long a client goes on by listeners that it no longer has."""

from __future__ import annotations

import pytest

from tulle.delivery.contract import ENVOY_DRAIN_SECONDS, Node
from tulle.xds import bootstrap


def test_envoys_bootstrap_says_how_long_it_drains() -> None:
    identity = bootstrap.NodeIdentity("a", "default", "127.0.0.1", "a", ())
    made = bootstrap.envoy_bootstrap(identity, 1, bootstrap.ServerAddress("127.0.0.1", 2), "/tmp/sds.sock")
    assert Node("a", user_agent="envoy", metadata=made["node"]["metadata"]).drain_seconds == 3


@pytest.mark.parametrize("said", [None, "3", -1, float("nan"), float("inf"), []])
def test_an_envoy_that_does_not_say_so_may_take_as_long_as_envoy_does(said: object) -> None:
    assert Node("a", user_agent="envoy", metadata={"DRAIN_SECONDS": said}).drain_seconds == ENVOY_DRAIN_SECONDS


def test_others_judge_by_what_they_have_acknowledged() -> None:
    assert Node("a", user_agent="tulle-proxy").drain_seconds == 0
