"""The SPIFFE Workload API as a descriptor.

Source: github.com/spiffe/spiffe `standards/workloadapi.proto` (no package, field numbers as there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

SERVICE = "SpiffeWorkloadAPI"
SVID_RESPONSE = "X509SVIDResponse"
BUNDLES_RESPONSE = "X509BundlesResponse"


def spiffe_file() -> FileDescriptorProto:
    """The file descriptor with the messages about X.509; requests have no fields."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    proto = FileDescriptorProto(name="workloadapi.proto", syntax="proto3")
    one, many = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED
    proto.message_type.add(name="X509SVIDRequest")
    proto.message_type.add(name="X509BundlesRequest")
    svid = proto.message_type.add(name="X509SVID")
    svid.field.add(name="spiffe_id", number=1, label=one, type=Field.TYPE_STRING)
    for number, name in enumerate(("x509_svid", "x509_svid_key", "bundle"), 2):
        svid.field.add(name=name, number=number, label=one, type=Field.TYPE_BYTES)
    svid.field.add(name="hint", number=5, label=one, type=Field.TYPE_STRING)
    svids = proto.message_type.add(name=SVID_RESPONSE)
    svids.field.add(name="svids", number=1, label=many, type=Field.TYPE_MESSAGE, type_name=".X509SVID")
    svids.field.add(name="crl", number=2, label=many, type=Field.TYPE_BYTES)
    _add_map(svids, "federated_bundles", 3)
    bundles = proto.message_type.add(name=BUNDLES_RESPONSE)
    bundles.field.add(name="crl", number=1, label=many, type=Field.TYPE_BYTES)
    _add_map(bundles, "bundles", 2)
    return proto


def _add_map(to: DescriptorProto, name: str, number: int) -> None:
    """A field of type map<string, bytes>."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    entry = to.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL, type=Field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL, type=Field.TYPE_BYTES)
    to.field.add(
        name=name, number=number, label=Field.LABEL_REPEATED, type=Field.TYPE_MESSAGE,
        type_name=f".{to.name}.{entry.name}",
    )
