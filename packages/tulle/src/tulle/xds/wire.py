"""Small values in the shapes protobuf constructors take: durations, wrappers, structs, typed extensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from tulle.protos import message, pack_any

ADS: Mapping[str, Any] = {"ads": {}, "resource_api_version": "V3"}
"""A ConfigSource: over the proxy's one aggregated stream."""

NO_TIMEOUT: Mapping[str, int] = {"seconds": 0}


def duration(span: timedelta) -> dict[str, int]:
    """A `google.protobuf.Duration`."""
    return {"seconds": span.days * 86400 + span.seconds, "nanos": span.microseconds * 1000}


def wrapped(value: float) -> dict[str, Any]:
    """A `google.protobuf.*Value` wrapper."""
    return {"value": value}


def typed(full_name: str, **fields: Any) -> Any:
    """An `Any` that holds a new message of that type."""
    return pack_any(message(full_name)(**fields))


def extension(name: str, full_name: str, **fields: Any) -> dict[str, Any]:
    """A named typed extension (filter, transport socket, access logger, …)."""
    return {"name": name, "typed_config": typed(full_name, **fields)}


def struct(pairs: Mapping[str, str]) -> Any:
    """A `google.protobuf.Struct` of strings."""
    made = message("google.protobuf.Struct")()
    for key, value in pairs.items():
        made.fields[key].string_value = value
    return made


def struct_list(key: str, entries: Sequence[Mapping[str, str]]) -> Any:
    """A Struct with one list of Structs of strings."""
    made = message("google.protobuf.Struct")()
    values = made.fields[key].list_value.values
    for entry in entries:
        values.add().struct_value.CopyFrom(struct(entry))
    return made


def socket_address(address: str, port: int) -> dict[str, Any]:
    """An Address: an IP or a name with a port, or `unix:///path`."""
    if address.startswith("unix://"):
        return {"pipe": {"path": address.removeprefix("unix://")}}
    return {"socket_address": {"address": address, "port_value": port}}


def address_within(namespace: str, address: str, port: int) -> dict[str, Any]:
    """An Address to listen on in the Linux network namespace with that file; the data plane's own for none."""
    return {"socket_address": _socket_within(namespace, address, port)}


def source_within(namespace: str, target: str) -> dict[str, Any]:
    """A BindConfig: `target`, an IP address, is called from inside that namespace."""
    return {"source_address": _socket_within(namespace, "::" if ":" in target else "0.0.0.0", 0)}  # noqa: S104


def _socket_within(namespace: str, address: str, port: int) -> dict[str, Any]:
    within = {"network_namespace_filepath": namespace} if namespace else {}
    return {"address": address, "port_value": port, **within}


def percent_of_million(millionths: int) -> dict[str, Any]:
    """A FractionalPercent."""
    return {"numerator": millionths, "denominator": "MILLION"}
