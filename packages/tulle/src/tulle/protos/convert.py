"""Messages to and from plain data (protobuf's JSON mapping), with `Any` resolved in the private pool."""

from __future__ import annotations

from typing import Any

from tulle.protos.pack import serialize
from tulle.protos.pool import UnknownMessageError, message, message_for_url, pool


def from_dict(full_name: str, data: dict[str, Any]) -> Any:
    """The message that JSON-like `data` describes, for example from YAML.

    Field names in snake_case or lowerCamelCase, durations as "1.5s", `Any` as {"@type": …}. Unknown fields
    and wrong types raise `google.protobuf.json_format.ParseError`, whose text has the field's path.
    """
    return merge_dict(message(full_name)(), data)


def merge_dict(msg: Any, data: dict[str, Any]) -> Any:
    """Merges JSON-like `data` into `msg` and returns `msg`."""
    from google.protobuf.json_format import ParseDict

    ParseDict(data, msg, descriptor_pool=pool())
    _repack(msg)
    return msg


def to_dict(msg: Any) -> dict[str, Any]:
    """The message as JSON-like data: snake_case names, `Any` opened, unset fields left out, maps by key."""
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(msg, preserving_proto_field_name=True, descriptor_pool=pool())
    return found


def _repack(msg: Any) -> None:
    """Serializes the contents of every `Any` again, innermost first.

    `ParseDict` packs them with maps in hash order, which would make equal input give unequal bytes.
    """
    if msg.DESCRIPTOR.full_name == "google.protobuf.Any":
        try:
            inner = message_for_url(msg.type_url).FromString(msg.value)
        except UnknownMessageError:
            return  # an empty Any
        _repack(inner)
        msg.value = serialize(inner)
        return
    for field, value in msg.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            values = value.values() if field.message_type.fields_by_name["value"].message_type else ()
        else:
            values = value if field.is_repeated else (value,)
        for inner in values:
            _repack(inner)
