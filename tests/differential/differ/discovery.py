"""A discovery server for cases that have one: it speaks the delta protocol and has the resources that a case lists."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from tulle.protos import from_dict, message, pack_any

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
TYPE = "type.googleapis.com/"
REQUEST = message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
RESPONSE = message("envoy.service.discovery.v3.DeltaDiscoveryResponse")

NAMED_OTHERWISE = {"envoy.config.endpoint.v3.ClusterLoadAssignment": "cluster_name"}
"""Types whose resources are not named by `name`."""


@dataclass(slots=True)
class Discovery(grpc.GenericRpcHandler):
    """Resources by type URL and name; `withheld` types are never answered."""

    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()
    port: int = 0
    _server: Any = None

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        """End every stream."""
        await self._server.stop(None)

    def fill(self, given: list[dict[str, Any]], fill: Callable[[str], str]) -> None:
        """Have the resources that a case lists, each with its `@type`, once the ports of the run are known."""
        for each in json.loads(fill(json.dumps(given))):
            kind = each.pop("@type").removeprefix(TYPE)
            name = each[NAMED_OTHERWISE.get(kind, "name")]
            self.resources.setdefault(TYPE + kind, {})[name] = pack_any(from_dict(kind, each))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The one method there is."""
        if handler_call_details.method != METHOD:
            return None
        return grpc.stream_stream_rpc_method_handler(
            self._stream, REQUEST.FromString, lambda response: response.SerializeToString()
        )

    async def _stream(self, requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        started: set[str] = set()
        nonce = 0
        async for request in requests:
            names = list(request.resource_names_subscribe)
            first = request.type_url not in started
            started.add(request.type_url)
            if request.type_url in self.withheld or not (names or first):
                continue
            nonce += 1
            yield self._answer(request.type_url, names, str(nonce))

    def _answer(self, type_url: str, names: list[str], nonce: str) -> Any:
        held = self.resources.get(type_url, {})
        response = RESPONSE(type_url=type_url, nonce=nonce, system_version_info="1")
        for name in held if not names or "*" in names else names:
            if name in held:
                response.resources.add(name=name, version="1", resource=held[name])
            else:
                response.removed_resources.append(name)
        return response


def bootstrap(port: int, given: dict[str, Any]) -> dict[str, Any]:
    """`given`, a bootstrap, with the discovery server as its source."""
    options = {
        "@type": TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster = {
        "name": "discovery",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {re.sub("^.*/", "", options["@type"]): options},
        "load_assignment": {
            "cluster_name": "discovery",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    given["static_resources"]["clusters"].append(cluster)
    service = {"envoy_grpc": {"cluster_name": "discovery"}}
    ads = {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [service]}
    given["dynamic_resources"] = {"ads_config": ads} | given.get("dynamic_resources", {})
    return given
