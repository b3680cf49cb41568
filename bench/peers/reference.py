"""The references: two hops that only copy bytes, without TLS, and no hop at all."""

from __future__ import annotations

from bench.peers.pair import Pair, Site


def floor(site: Site) -> Pair:
    """Two of native/hop.c: what the kernel alone asks for a pair."""
    hop = str(site.native / "hop")
    first = (hop, str(site.outbound), str(site.inbound))
    return Pair(
        (first, (hop, str(site.inbound), str(site.origin))), site.outbound, "native/hop.c, no TLS, no HTTP"
    )


def direct(site: Site) -> Pair:
    """The load straight to the application."""
    return Pair((), site.origin, "no proxy")
