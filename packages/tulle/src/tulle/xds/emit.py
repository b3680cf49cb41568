"""The whole of emission, as a table of contents: a scope in, a snapshot out."""

from __future__ import annotations

from tulle.xds.client import ClientKind
from tulle.xds.memo import Memo
from tulle.xds.own import inbound_tables, own_clusters, own_listeners, upstream_tables
from tulle.xds.proxyless import emit_grpc
from tulle.xds.scope import Scope
from tulle.xds.shared import layer, missing_clusters, shared
from tulle.xds.snapshot import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Layer, Layered, Snapshot


def emit(scope: Scope) -> Snapshot:
    """Everything that one proxy is told. Many proxies share work through an `Emitter`."""
    return Emitter().emit(scope)


class Emitter:
    """Emission that remembers: a resource whose inputs did not change is neither built nor serialized again,
    and what several proxies, or one proxy at two times, have in common is the same object.

    A scope of another mesh than the last one starts a generation; what a whole one did not use is forgotten.
    """

    def __init__(self) -> None:
        self._memo = Memo()
        self._generation: object = None

    def emit(self, scope: Scope) -> Snapshot:
        """Everything that one proxy is told."""
        if scope.endpoints is not self._generation:
            self._memo.turn()
            self._generation = scope.endpoints
        if scope.client is ClientKind.GRPC:
            return emit_grpc(scope, self._memo)
        return _sidecar(scope, self._memo)


def _sidecar(scope: Scope, memo: Memo) -> Snapshot:
    common = shared(scope.outbound, scope.endpoints, memo)
    listeners = layer(own_listeners(scope, memo), memo)
    tables = layer([*upstream_tables(scope, memo), *inbound_tables(scope, memo)], memo)
    inbound = layer(own_clusters(scope, memo), memo)
    inputs = (listeners, tables, common.clusters, inbound)
    missing = memo.get(
        "missing", inputs, lambda: missing_clusters((listeners, tables), (common.clusters, inbound))
    )
    own = memo.get(
        "layered", (common.clusters, inbound, missing), lambda: Layered(common.clusters, inbound, missing)
    )
    routes = memo.get("layered", (common.routes, tables), lambda: Layered(common.routes, tables))
    resources: dict[str, Layer | Layered] = {
        CLUSTER: own,
        ENDPOINTS: common.endpoints,
        LISTENER: listeners,
        ROUTES: routes,
    }
    return memo.get("snapshot", tuple(resources.values()), lambda: Snapshot(resources))
