"""The order in which types are pushed: what is referred to comes before and goes after what refers to it."""

from __future__ import annotations

from enum import Enum

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 (a type URL)

# Types without wildcard: an empty list of names means none of them, not all.
BY_NAME_ONLY = frozenset({ENDPOINT, ROUTE, SECRET})


class Step(Enum):
    """What a push may do to a type at its place in the order."""

    MAKE = "make"
    BREAK = "break"


_MAKE = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)
_BREAK = (LISTENER, ROUTE, CLUSTER, ENDPOINT, SECRET)


def steps(subscribed: list[str]) -> list[tuple[str, Step]]:
    """The order for these type URLs. Types not named above come last, by name, in both directions."""
    others = sorted(set(subscribed).difference(_MAKE))
    present = set(subscribed)
    makes = [(url, Step.MAKE) for url in (*_MAKE, *others) if url in present]
    breaks = [(url, Step.BREAK) for url in (*_BREAK, *others) if url in present]
    return makes + breaks
