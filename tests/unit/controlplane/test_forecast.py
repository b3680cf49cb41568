"""Which calls would fail first: by the certificates of both ends, and of calls that there are."""

from __future__ import annotations

from tulle.api.trust import render
from tulle.api.wire import EdgeView
from tulle.api.wire_trust import CaStatus
from tulle.controlplane.forecast import first_edge
from tulle.sources.store_leaves import Leaf

NOW = 1_000.0


def edge(source: str, destination: str, requests: float = 1.0, namespace: str = "default") -> EdgeView:
    return EdgeView(
        source=source, destination=destination, service=destination, requests=requests, failures=0.0, mtls=requests,
        source_namespace=namespace, destination_namespace=namespace,
    )


def leaf(workload: str, expires: float, namespace: str = "default") -> Leaf:
    return Leaf(f"{workload}-{expires:g}", "line", namespace, workload, "root", 0.0, expires)


def test_the_first_certificate_of_either_end_counts() -> None:
    leaves = [leaf("idle", 1_001.0), leaf("b", 1_060.0), leaf("b", 1_090.0), leaf("a", 1_080.0), leaf("c", 1_100.0)]
    found = first_edge([edge("a", "c", 9.0), edge("c", "b"), edge("a", "b", 3.0)], leaves, NOW)
    assert found is not None
    assert (found.source, found.destination, found.expires, found.seconds) == ("a", "b", 1_060.0, 60.0)


def test_namesakes_of_other_namespaces_do_not_count() -> None:
    leaves = [leaf("a", 1_001.0, "other"), leaf("a", 1_050.0)]
    found = first_edge([edge("a", "unknown")], leaves, NOW)
    assert found is not None
    assert found.expires == 1_050.0
    assert first_edge([edge("x", "y")], leaves, NOW) is None
    assert first_edge([], leaves, NOW) is None


def test_the_metric_names_both_ends() -> None:
    status = CaStatus(
        phase="stable", next_step="", roots=[], lagging=[], forecast=None, certificates=2, revoked=[],
        first_edge=first_edge([edge("a", "b")], [leaf("a", 1_080.0)], NOW),
    )
    line = (
        'tulle_first_edge_expiry_timestamp_seconds{destination="b",destination_namespace="default",source="a",'
        'source_namespace="default"} 1080.0'
    )
    assert line in render(status).decode()
