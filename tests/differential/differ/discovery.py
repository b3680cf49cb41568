"""A discovery server for cases that have one: it has the resources that a case lists, and speaks either protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
import grpc.aio

from tulle.protos import from_dict, message, pack_any

SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
TYPE = "type.googleapis.com/"
REQUEST = message("envoy.service.discovery.v3.DeltaDiscoveryRequest")
RESPONSE = message("envoy.service.discovery.v3.DeltaDiscoveryResponse")
WORLD_REQUEST = message("envoy.service.discovery.v3.DiscoveryRequest")
WORLD_RESPONSE = message("envoy.service.discovery.v3.DiscoveryResponse")

Variant = Literal["delta", "world"]
"""Each resource by itself, or everything at once."""

WHOLE = (TYPE + "envoy.config.cluster.v3.Cluster", TYPE + "envoy.config.listener.v3.Listener")
"""Types of which a response of the state-of-the-world protocol holds everything."""

NAMED_OTHERWISE = {"envoy.config.endpoint.v3.ClusterLoadAssignment": "cluster_name"}
"""Types whose resources are not named by `name`."""


PATIENCE_S = 5.0
"""How long a change may take to be answered."""

SETTLE_S = 0.1
"""From the answer, which the main thread gives, to when workers have taken the change over."""


@dataclass(slots=True)
class _Stream:
    """One stream: what it has subscribed to by type (`*` for all of it), and what waits to be sent and answered."""

    subscribed: dict[str, set[str]] = field(default_factory=dict)
    waiting: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    unanswered: set[str] = field(default_factory=set)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, type_url: str, name: str) -> bool:
        names = self.subscribed.get(type_url, set())
        return name in names or "*" in names


@dataclass(slots=True)
class Discovery(grpc.GenericRpcHandler):
    """Resources by type URL and name, each with its version; `withheld` types are never answered.

    `refused` are the types whose responses were answered with an error since it was last emptied.
    """

    resources: dict[str, dict[str, tuple[str, Any]]] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()
    variant: Variant = "delta"
    port: int = 0
    refused: list[str] = field(default_factory=list)
    _streams: list[_Stream] = field(default_factory=list)
    _number: int = 0
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

    def fill(self, given: Sequence[dict[str, Any]], fill: Callable[[str], str]) -> set[tuple[str, str]]:
        """Have resources, each given with its `@type`, once the ports of the run are known; their types and names."""
        self._number += 1
        filled = set()
        for each in json.loads(fill(json.dumps(given))):
            kind = each.pop("@type").removeprefix(TYPE)
            name = each[NAMED_OTHERWISE.get(kind, "name")]
            packed = (str(self._number), pack_any(from_dict(kind, each)))
            self.resources.setdefault(TYPE + kind, {})[name] = packed
            filled.add((TYPE + kind, name))
        return filled

    async def change(
        self, given: Sequence[dict[str, Any]], gone: Sequence[str], fill: Callable[[str], str]
    ) -> None:
        """Have these resources, and not those in `gone` (`<type> <name>`); returns when that is answered."""
        changed = self.fill(given, fill)
        for each in gone:
            kind, _, name = each.partition(" ")
            self.resources.get(TYPE + kind, {}).pop(name, None)
            changed.add((TYPE + kind, name))
        streams = list(self._streams)
        for stream in streams:
            for type_url in dict.fromkeys(type_url for type_url, _ in sorted(changed)):
                names = [
                    name for kind, name in sorted(changed) if kind == type_url and stream.wants(kind, name)
                ]
                if names:
                    self._send(stream, type_url, names)
        for stream in streams:
            while stream.unanswered:
                stream.answered.clear()
                await asyncio.wait_for(stream.answered.wait(), PATIENCE_S)
        await asyncio.sleep(SETTLE_S)

    def asked(self) -> dict[str, str]:
        """What is subscribed to, by the last part of the type's name."""
        names: dict[str, set[str]] = {}
        for stream in self._streams:
            for type_url, wanted in stream.subscribed.items():
                names.setdefault(type_url.rpartition(".")[2], set()).update(wanted)
        return {kind: " ".join(sorted(wanted)) for kind, wanted in names.items() if wanted}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The method of the variant that is spoken."""
        delta = self.variant == "delta"
        if handler_call_details.method != SERVICE + ("Delta" if delta else "Stream") + "AggregatedResources":
            return None
        request = REQUEST if delta else WORLD_REQUEST
        return grpc.stream_stream_rpc_method_handler(
            self._stream, request.FromString, lambda response: response.SerializeToString()
        )

    async def _stream(self, requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        stream = _Stream()
        self._streams.append(stream)
        listening = asyncio.create_task(self._listen(stream, requests))
        try:
            while (response := await stream.waiting.get()) is not None:
                yield response
        finally:
            self._streams.remove(stream)
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def _listen(self, stream: _Stream, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            first = request.type_url not in stream.subscribed
            held = stream.subscribed.setdefault(request.type_url, set())
            if self.variant == "delta":
                names = list(request.resource_names_subscribe)
                held.update(names or ({"*"} if first else ()))
                held.difference_update(request.resource_names_unsubscribe)
            else:
                wanted = set(request.resource_names) or ({"*"} if request.type_url in WHOLE else set())
                names = sorted(wanted - held)
                held.clear()
                held.update(wanted)
            if request.response_nonce:
                if request.HasField("error_detail"):
                    self.refused.append(request.type_url.rpartition(".")[2])
                stream.unanswered.discard(request.response_nonce)
                stream.answered.set()
            if request.type_url not in self.withheld and (names or first):
                self._send(stream, request.type_url, names)
        stream.waiting.put_nowait(None)

    def _send(self, stream: _Stream, type_url: str, names: list[str]) -> None:
        self._number += 1
        held = self.resources.get(type_url, {})
        if self.variant == "world":
            whole = type_url in WHOLE or "*" in names
            packed = [resource for name, (_, resource) in held.items() if whole or name in names]
            number = str(self._number)
            world = WORLD_RESPONSE(type_url=type_url, nonce=number, version_info=number, resources=packed)
            stream.unanswered.add(world.nonce)
            stream.waiting.put_nowait(world)
            return
        response = RESPONSE(type_url=type_url, nonce=str(self._number), system_version_info="1")
        for name in held if not names or "*" in names else names:
            if name in held:
                version, resource = held[name]
                response.resources.add(name=name, version=version, resource=resource)
            else:
                response.removed_resources.append(name)
        stream.unanswered.add(response.nonce)
        stream.waiting.put_nowait(response)


def bootstrap(port: int, given: dict[str, Any], variant: Variant) -> dict[str, Any]:
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
    kind = "DELTA_GRPC" if variant == "delta" else "GRPC"
    ads = {"api_type": kind, "transport_api_version": "V3", "grpc_services": [service]}
    given["dynamic_resources"] = {"ads_config": ads} | given.get("dynamic_resources", {})
    return given
