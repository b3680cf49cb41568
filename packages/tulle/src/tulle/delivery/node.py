"""Which workload a node id names, and the rule that a proxy may read only its own workload's resources."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tulle.delivery.contract import Authorize, Node, Peer

_PARTS = 4


class WorkloadName(NamedTuple):
    """What a node id names."""

    namespace: str
    workload: str


def workload_of(node_id: str) -> WorkloadName | None:
    """The workload in `sidecar~<address>~<workload>.<namespace>~<domain>` (Istio's form), or None."""
    parts = node_id.split("~")
    if len(parts) != _PARTS:
        return None
    # A workload's name may have dots, a namespace may not.
    workload, _, namespace = parts[2].rpartition(".")
    return WorkloadName(namespace, workload) if workload and namespace else None


def own_workload_only(spiffe_id_of: Callable[[str, str], str | None]) -> Authorize:
    """Lets in a peer whose certificate is that of the workload its node id names.

    `spiffe_id_of(namespace, workload)` is the id that this workload is registered with, or None.
    """

    def authorize(node: Node, peer: Peer) -> str | None:
        name = workload_of(node.id)
        if name is None:
            return f"the node id {node.id[:200]!r} names no workload"
        registered = spiffe_id_of(*name)
        # One answer for both, so that nobody can ask which workloads there are.
        if registered is None or registered != peer.spiffe_id:
            return f"{peer.spiffe_id} is not the identity of a workload {name.workload} in {name.namespace}"
        return None

    return authorize
