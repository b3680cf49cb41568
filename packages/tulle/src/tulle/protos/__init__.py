"""Envoy v3 messages from a private descriptor pool, so that no other package's protos can clash with ours.

Use:

    Cluster = message("envoy.config.cluster.v3.Cluster")
    any_ = pack_any(Cluster(name="a"))
    to_dict(Cluster(name="a")) == {"name": "a"}

Descriptors are package data (`xds.binpb.z`, made by `tools/build_protos.py`); files are added to the pool the
first time that a message of theirs is asked for, so importing this package costs nothing.
"""

from __future__ import annotations

from tulle.protos.convert import from_dict, merge_dict, to_dict
from tulle.protos.pack import TYPE_PREFIX, pack_any, serialize, type_url, unpack_any
from tulle.protos.pool import UnknownMessageError, message, message_for_url, pool

__all__ = [
    "TYPE_PREFIX",
    "UnknownMessageError",
    "from_dict",
    "merge_dict",
    "message",
    "message_for_url",
    "pack_any",
    "pool",
    "serialize",
    "to_dict",
    "type_url",
    "unpack_any",
]
