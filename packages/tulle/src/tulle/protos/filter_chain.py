"""Envoy's filter of filters as a descriptor: `xds-protos` is older than it.

Source: envoy `api/envoy/extensions/filters/http/filter_chain/v3/filter_chain.proto` (field numbers as there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

_PACKAGE = "envoy.extensions.filters.http.filter_chain.v3"
FILTER = f"{_PACKAGE}.FilterChainConfig"
PER_ROUTE = f"{_PACKAGE}.FilterChainConfigPerRoute"


def filter_chain_file() -> FileDescriptorProto:
    """The file descriptor with the filter's settings and those of a route."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    proto = FileDescriptorProto(
        name="envoy/extensions/filters/http/filter_chain/v3/filter_chain.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["envoy/config/core/v3/extension.proto"],
    )
    one, many, of_type = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED, Field.TYPE_MESSAGE
    chain, extension = f".{_PACKAGE}.FilterChain", ".envoy.config.core.v3.TypedExtensionConfig"
    whole = proto.message_type.add(name="FilterChainConfig")
    whole.field.add(name="default_filter_chain", number=1, label=one, type=of_type, type_name=chain)
    of_route = proto.message_type.add(name="FilterChainConfigPerRoute")
    of_route.field.add(name="filter_chain", number=1, label=one, type=of_type, type_name=chain)
    filters = proto.message_type.add(name="FilterChain")
    filters.field.add(name="filters", number=1, label=many, type=of_type, type_name=extension)
    return proto
