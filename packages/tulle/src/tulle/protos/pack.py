"""Deterministic serialization and packing into `Any`: equal messages give equal bytes and equal versions."""

from __future__ import annotations

from typing import Any

from tulle.protos.pool import message, message_for_url

TYPE_PREFIX = "type.googleapis.com/"


def type_url(full_name: str) -> str:
    """The type URL of a message by its full name."""
    return TYPE_PREFIX + full_name


def serialize(msg: Any) -> bytes:
    """The message's bytes with map entries in key order. Bytes inside `Any` fields are taken as they are."""
    data: bytes = msg.SerializeToString(deterministic=True)
    return data


def pack_any(msg: Any) -> Any:
    """A `google.protobuf.Any` (of the private pool) that holds `msg`, serialized deterministically."""
    return message("google.protobuf.Any")(type_url=type_url(msg.DESCRIPTOR.full_name), value=serialize(msg))


def unpack_any(packed: Any) -> Any:
    """The message in an `Any`. Raises `UnknownMessageError`, or protobuf's `DecodeError`."""
    return message_for_url(packed.type_url).FromString(packed.value)
