"""Access logs and tracing of connection managers and TCP proxies."""

from __future__ import annotations

from typing import Any

from tulle.model.settings import AccessLog, LogEncoding, MeshSettings
from tulle.protos import message
from tulle.xds import names
from tulle.xds.wire import extension, struct, typed

ISTIO_TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
"""Istio's default text format."""

ISTIO_JSON = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
}
"""Istio's default JSON format."""


def access_logs(log: AccessLog) -> list[dict[str, Any]]:
    """The access loggers that the settings ask for: none, or one."""
    if log.path is None:
        return []
    text_format = {"log_format": {**_format(log), **_formatters(log)}}
    if log.path == "/dev/stdout":
        return [
            extension(
                "envoy.access_loggers.stdout",
                "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                **text_format,
            )
        ]
    return [
        extension(
            "envoy.access_loggers.file",
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=log.path,
            **text_format,
        )
    ]


def _format(log: AccessLog) -> dict[str, Any]:
    if log.encoding is LogEncoding.TEXT:
        return {"text_format_source": {"inline_string": log.format or ISTIO_TEXT}}
    if log.format is None:
        return {"json_format": struct(ISTIO_JSON)}
    return {"json_format": parsed_json_format(log.format)}


def _formatters(log: AccessLog) -> dict[str, Any]:
    """Of the operators only those without the query are an extension that Envoy must be told to take."""
    if "_WITHOUT_QUERY" not in (log.format or ""):
        return {}
    kind = "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"
    return {"formatters": [extension("envoy.formatter.req_without_query", kind)]}


def parsed_json_format(text: str) -> Any:
    """A JSON format given as text. Raises `google.protobuf.json_format.ParseError`."""
    from google.protobuf.json_format import Parse

    return Parse(text, message("google.protobuf.Struct")())


def tracing(settings: MeshSettings) -> dict[str, Any]:
    """The connection manager's tracing: who decides, and Zipkin where an address is given."""
    made: dict[str, Any] = {
        "client_sampling": {"value": 100.0},
        "random_sampling": {"value": settings.tracing.sampling.millionths / 10_000},
        "overall_sampling": {"value": 100.0},
    }
    if settings.tracing.zipkin is not None:
        made["provider"] = {
            "name": "envoy.tracers.zipkin",
            "typed_config": typed(
                "envoy.config.trace.v3.ZipkinConfig",
                collector_cluster=names.ZIPKIN_CLUSTER,
                collector_endpoint="/api/v2/spans",
                collector_endpoint_version="HTTP_JSON",
                trace_id_128bit=True,
                shared_span_context={"value": False},
            ),
        }
    return made
