"""MeshConfig's extension providers that decide about requests: envoyExtAuthzHttp and envoyExtAuthzGrpc."""

# ruff: noqa: RUF012 (pydantic copies default values)

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tulle.dialects.fields import HeaderName, Port, PositiveDuration, Schema
from tulle.dialects.istio.schema.common import Later

Pattern = Annotated[str, Field(min_length=1, max_length=256)]
Status = Annotated[str, Field(pattern=r"^[2-5][0-9]{2}$")]


class RequestBody(Schema):
    """How much of the body is shown."""

    max_request_bytes: Annotated[int, Field(gt=0, le=64 << 20)]
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class Check(Schema):
    """What both kinds say."""

    service: Annotated[str, Field(min_length=1, max_length=512)]
    port: Port
    timeout: PositiveDuration | None = None
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: Status | None = None
    include_request_body_in_check: RequestBody | None = None


class HttpCheck(Check):
    """Over HTTP."""

    path_prefix: Annotated[str, Field(pattern=r"^/")] | None = None
    include_headers_in_check: list[Pattern] = []
    include_request_headers_in_check: list[Pattern] = []
    include_additional_headers_in_check: dict[HeaderName, str] = {}
    headers_to_upstream_on_allow: list[Pattern] = []
    headers_to_downstream_on_deny: list[Pattern] = []
    headers_to_downstream_on_allow: list[Pattern] = []


class ExtensionProvider(Schema):
    """One provider: a name and one kind."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    envoy_ext_authz_http: HttpCheck | None = None
    envoy_ext_authz_grpc: Check | None = None
    zipkin: Annotated[Any, Later] = None
    lightstep: Annotated[Any, Later] = None
    datadog: Annotated[Any, Later] = None
    stackdriver: Annotated[Any, Later] = None
    opencensus: Annotated[Any, Later] = None
    skywalking: Annotated[Any, Later] = None
    opentelemetry: Annotated[Any, Later] = None
    prometheus: Annotated[Any, Later] = None
    envoy_file_access_log: Annotated[Any, Later] = None
    envoy_http_als: Annotated[Any, Later] = None
    envoy_tcp_als: Annotated[Any, Later] = None
    envoy_otel_als: Annotated[Any, Later] = None
    sds: Annotated[Any, Later] = None
