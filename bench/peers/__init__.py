"""One module for each kind of peer: how a pair of its sidecars is configured, started and named."""

from __future__ import annotations

from collections.abc import Callable

from bench.peers import envoy, haproxy, nginx, reference
from bench.peers.pair import Pair, Site

PEERS: dict[str, Callable[[Site], Pair]] = {
    "tulle": envoy.tulle,
    "envoy": envoy.envoy,
    "haproxy-h2": haproxy.h2,
    "haproxy-h1": haproxy.h1,
    "nginx": nginx.nginx,
    "floor": reference.floor,
    "direct": reference.direct,
}
"""A peer's name and what makes its pair."""
