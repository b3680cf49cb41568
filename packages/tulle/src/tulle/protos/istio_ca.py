"""Istio's certificate service as a descriptor: the one proto that Tulle needs and `xds-protos` has not.

Source: istio.io/api `security/v1alpha1/ca.proto` (package `istio.v1.auth`, field numbers as there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

SERVICE = "istio.v1.auth.IstioCertificateService"
REQUEST = "istio.v1.auth.IstioCertificateRequest"
RESPONSE = "istio.v1.auth.IstioCertificateResponse"


def istio_ca_file() -> FileDescriptorProto:
    """The file descriptor with the request, the response and the service."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    proto = FileDescriptorProto(
        name="security/v1alpha1/ca.proto",
        package="istio.v1.auth",
        syntax="proto3",
        dependency=["google/protobuf/struct.proto"],
    )
    one, many = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED
    request = proto.message_type.add(name="IstioCertificateRequest")
    request.field.add(name="csr", number=1, label=one, type=Field.TYPE_STRING)
    request.field.add(name="validity_duration", number=3, label=one, type=Field.TYPE_INT64)
    request.field.add(
        name="metadata", number=4, label=one, type=Field.TYPE_MESSAGE, type_name=".google.protobuf.Struct"
    )
    response = proto.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, label=many, type=Field.TYPE_STRING)
    service = proto.service.add(name="IstioCertificateService")
    service.method.add(name="CreateCertificate", input_type="." + REQUEST, output_type="." + RESPONSE)
    return proto
