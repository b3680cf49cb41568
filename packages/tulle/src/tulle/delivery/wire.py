"""ADS messages to and from bytes: requests are parsed, responses assembled around serialized resources.

A response is a concatenation of length-delimited fields, so the serialized `Any` of each resource is copied
into place and never parsed again. Field numbers are those of `envoy/service/discovery/v3/discovery.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tulle.delivery.contract import Node, Resource
from tulle.delivery.session import DeltaRequest, Push, SotwRequest
from tulle.protos import message, to_dict

_DELTA_REQUEST = "envoy.service.discovery.v3.DeltaDiscoveryRequest"
_SOTW_REQUEST = "envoy.service.discovery.v3.DiscoveryRequest"

CONTROL_PLANE = "tulle"
_LENGTH_DELIMITED = 2


def parse_delta(data: bytes) -> tuple[DeltaRequest, Node | None]:
    """A delta request and its node, if it has one. Raises protobuf's `DecodeError`."""
    found = message(_DELTA_REQUEST).FromString(data)
    request = DeltaRequest(
        type_url=found.type_url,
        subscribe=tuple(found.resource_names_subscribe),
        unsubscribe=tuple(found.resource_names_unsubscribe),
        initial_versions=dict(found.initial_resource_versions),
        nonce=found.response_nonce,
        error=_error(found),
    )
    return request, _node(found)


def parse_sotw(data: bytes) -> tuple[SotwRequest, Node | None]:
    """A state-of-the-world request and its node, if it has one. Raises protobuf's `DecodeError`."""
    found = message(_SOTW_REQUEST).FromString(data)
    request = SotwRequest(
        type_url=found.type_url,
        names=tuple(found.resource_names),
        version=found.version_info,
        nonce=found.response_nonce,
        error=_error(found),
    )
    return request, _node(found)


def _error(request: Any) -> str | None:
    return request.error_detail.message or "no reason given" if request.HasField("error_detail") else None


def _node(request: Any) -> Node | None:
    if not request.HasField("node"):
        return None
    node = request.node
    return Node(
        id=node.id,
        cluster=node.cluster,
        user_agent=node.user_agent_name,
        metadata=to_dict(node.metadata),
    )


def delta_response(push: Push) -> bytes:
    """A serialized `DeltaDiscoveryResponse`."""
    parts: list[bytes] = []
    for resource in push.resources:
        parts.extend(_field(2, b"".join(_delta_resource(resource))))
    parts.extend(_field(4, push.type_url.encode()))
    parts.extend(_field(5, push.nonce.encode()))
    for name in push.removed:
        parts.extend(_field(6, name.encode()))
    parts.extend(_control_plane(7))
    return b"".join(parts)


def _delta_resource(resource: Resource) -> Iterator[bytes]:
    yield from _field(1, resource.version.encode())
    yield from _field(2, resource.body)
    yield from _field(3, resource.name.encode())


def sotw_response(push: Push) -> bytes:
    """A serialized `DiscoveryResponse`."""
    parts: list[bytes] = [*_field(1, push.version.encode())]
    for resource in push.resources:
        parts.extend(_field(2, resource.body))
    parts.extend(_field(4, push.type_url.encode()))
    parts.extend(_field(5, push.nonce.encode()))
    parts.extend(_control_plane(6))
    return b"".join(parts)


def _control_plane(number: int) -> Iterable[bytes]:
    return _field(number, b"".join(_field(1, CONTROL_PLANE.encode())))


def _field(number: int, data: bytes) -> tuple[bytes, bytes]:
    """A length-delimited field: its key and length, and its content."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(data)), data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
