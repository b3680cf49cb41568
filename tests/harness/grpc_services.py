"""Real gRPC services that a proxy asks, and the parts of a static bootstrap that lead to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from tulle.protos import message

H2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
Answer = Callable[[Any, grpc.ServicerContext], Any]


class Unary(grpc.GenericRpcHandler):
    """One unary method: writes down what it is asked, and answers as the test says."""

    def __init__(self, method: str, request: str, answer: Answer) -> None:
        self.method, self.request = method, message(request)
        self.asked: list[Any] = []
        self.answer = answer

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if handler_call_details.method != self.method:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._call, self.request.FromString, lambda response: response.SerializeToString()
        )

    def _call(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked.append(request)
        return self.answer(request, context)


@contextmanager
def serving(handler: grpc.GenericRpcHandler) -> Iterator[int]:
    """The port of 127.0.0.1 at which `handler` is served while the block runs."""
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield int(port)
    finally:
        server.stop(None).wait()


def extension(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    """A typed extension of a filter list."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}", **fields}}


def cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    """A static cluster of one endpoint on 127.0.0.1."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}, **more}


def grpc_cluster(name: str, port: int) -> dict[str, Any]:
    """The same for a gRPC service."""
    h2 = {H2: {"@type": f"type.googleapis.com/{H2}", "explicit_http_config": {"http2_protocol_options": {}}}}
    return cluster(name, port, typed_extension_protocol_options=h2)


def http_listener(
    name: str, port: int, routes: list[dict[str, Any]], filters: list[dict[str, Any]]
) -> dict[str, Any]:
    """A listener whose connection manager has `filters` before its router."""
    manager = extension(
        "manager",
        HCM,
        stat_prefix=name,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[*filters, extension("envoy.filters.http.router", ROUTER)],
    )
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"name": name, "address": address, "filter_chains": [{"filters": [manager]}]}
