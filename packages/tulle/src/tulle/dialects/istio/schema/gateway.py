"""Gateway: https://istio.io/latest/docs/reference/config/networking/gateway/."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tulle.dialects.fields import Port, Schema
from tulle.dialects.istio.schema.common import Later
from tulle.dialects.metadata import Envelope

TlsVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class GatewayPort(Schema):
    """A port the gateway listens on."""

    number: Port
    protocol: Literal["HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS"]
    name: Annotated[str, Field(min_length=1)]
    target_port: Annotated[Any, Later] = None


class ServerTls(Schema):
    """TLS of a gateway's server."""

    https_redirect: bool = False
    mode: Literal[
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ] = "PASSTHROUGH"
    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    ca_crl: Annotated[Any, Later] = None
    subject_alt_names: list[str] = []
    credential_name: str | None = None
    credential_names: list[str] = []
    ca_cert_credential_name: str | None = None
    tls_certificates: Annotated[Any, Later] = None
    verify_certificate_spki: Annotated[Any, Later] = None
    verify_certificate_hash: Annotated[Any, Later] = None
    min_protocol_version: TlsVersion = "TLS_AUTO"
    max_protocol_version: TlsVersion = "TLS_AUTO"
    cipher_suites: list[str] = []


class Server(Schema):
    """Hosts behind one port."""

    port: GatewayPort
    hosts: Annotated[list[str], Field(min_length=1)]
    tls: ServerTls | None = None
    bind: str | None = None
    name: str = ""
    default_endpoint: Annotated[Any, Later] = None


class GatewaySpec(Schema):
    """The servers of the gateway workloads that ``selector`` chooses."""

    servers: Annotated[list[Server], Field(min_length=1)]
    selector: dict[str, str] = {}


class Gateway(Envelope):
    """networking.istio.io Gateway."""

    spec: GatewaySpec
