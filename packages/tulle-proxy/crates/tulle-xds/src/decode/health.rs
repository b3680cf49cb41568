//! Active health checks.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::r#type::v3 as type_pb;
use tulle_config::cluster::{HealthCheck, HealthChecker};
use tulle_core::Str;

use super::common::{labels, optional, struct_to_map, truth, uint};
use super::cx::{Cx, refuse, without_effect};
use super::matchers::string_matcher;

/// Envoy's default, in bytes.
const RESPONSE_BUFFER: u64 = 1024;

pub fn health_check(cx: &mut Cx, message: core_pb::HealthCheck) -> Option<HealthCheck> {
    use core_pb::health_check::HealthChecker as Kind;
    let core_pb::HealthCheck {
        timeout,
        interval,
        initial_jitter,
        interval_jitter,
        interval_jitter_percent,
        unhealthy_threshold,
        healthy_threshold,
        alt_port,
        reuse_connection,
        no_traffic_interval,
        no_traffic_healthy_interval,
        unhealthy_interval,
        unhealthy_edge_interval,
        healthy_edge_interval,
        event_log_path,
        event_logger,
        event_service,
        always_log_health_check_failures,
        always_log_health_check_success,
        tls_options,
        transport_socket_match_criteria,
        health_checker,
    } = message;
    refuse!(cx; alt_port);
    without_effect!(cx; event_log_path, event_logger, event_service, always_log_health_check_failures,
        always_log_health_check_success);
    let timeout = cx.required("timeout", timeout).and_then(|timeout| cx.duration("timeout", Some(timeout)));
    let interval = cx.required("interval", interval).and_then(|interval| cx.duration("interval", Some(interval)));
    let unhealthy_threshold = cx.required("unhealthy_threshold", uint(unhealthy_threshold));
    let healthy_threshold = cx.required("healthy_threshold", uint(healthy_threshold));
    let checker = match cx.required("health_checker", health_checker)? {
        Kind::HttpHealthCheck(http) => cx.field("http_health_check", |cx| http_check(cx, http)),
        Kind::TcpHealthCheck(tcp) => cx.field("tcp_health_check", |cx| tcp_check(cx, tcp)),
        Kind::GrpcHealthCheck(grpc) => cx.field("grpc_health_check", |cx| grpc_check(cx, grpc)),
        Kind::CustomHealthCheck(_) => {
            cx.refuse("custom_health_check");
            None
        }
    };
    let interval = interval?;
    let no_traffic = cx.duration("no_traffic_interval", no_traffic_interval).unwrap_or(Duration::from_secs(60));
    let unhealthy = cx.duration("unhealthy_interval", unhealthy_interval).unwrap_or(interval);
    Some(HealthCheck {
        timeout: timeout?,
        interval,
        interval_jitter: cx.duration("interval_jitter", interval_jitter).unwrap_or_default(),
        initial_jitter: cx.duration("initial_jitter", initial_jitter).unwrap_or_default(),
        interval_jitter_percent,
        no_traffic_interval: no_traffic,
        no_traffic_healthy_interval: cx
            .duration("no_traffic_healthy_interval", no_traffic_healthy_interval)
            .unwrap_or(no_traffic),
        unhealthy_interval: unhealthy,
        unhealthy_edge_interval: cx.duration("unhealthy_edge_interval", unhealthy_edge_interval).unwrap_or(unhealthy),
        healthy_edge_interval: cx.duration("healthy_edge_interval", healthy_edge_interval).unwrap_or(interval),
        unhealthy_threshold: unhealthy_threshold?,
        healthy_threshold: healthy_threshold?,
        reuse_connection: truth(reuse_connection, true),
        transport_labels: transport_socket_match_criteria
            .map(|fields| cx.field("transport_socket_match_criteria", |cx| labels(cx, &struct_to_map(fields)))),
        alpn: tls_options.unwrap_or_default().alpn_protocols.into_iter().map(|name| name.into_bytes().into()).collect(),
        checker: checker?,
    })
}

fn http_check(cx: &mut Cx, message: core_pb::health_check::HttpHealthCheck) -> Option<HealthChecker> {
    let core_pb::health_check::HttpHealthCheck {
        host,
        path,
        send,
        receive,
        response_buffer_size,
        request_headers_to_add,
        request_headers_to_remove,
        expected_statuses,
        retriable_statuses,
        codec_client_type,
        service_name_matcher,
        method,
    } = message;
    let expected = cx.each("expected_statuses", expected_statuses, statuses);
    Some(HealthChecker::Http {
        host: optional(cx, &host),
        path: cx.name("path", &path)?,
        method: method_of(cx, method)?,
        http2: match cx.enumeration::<type_pb::CodecClientType>("codec_client_type", codec_client_type)? {
            type_pb::CodecClientType::Http1 => false,
            type_pb::CodecClientType::Http2 => true,
            type_pb::CodecClientType::Http3 => {
                cx.error_at("codec_client_type", "HTTP/3 is not supported");
                return None;
            }
        },
        expected_statuses: if expected.is_empty() { vec![(200, 201)] } else { expected },
        retriable_statuses: cx.each("retriable_statuses", retriable_statuses, statuses),
        request_headers: cx.each("request_headers_to_add", request_headers_to_add, plain_header),
        without_headers: super::address::lower_case(cx, request_headers_to_remove),
        send: match send {
            Some(send) => Some(cx.field("send", |cx| payload(cx, send))?),
            None => None,
        },
        receive: cx.each("receive", receive, payload),
        receive_within: match response_buffer_size.map_or(RESPONSE_BUFFER, |size| size.value) {
            0 => None,
            size => Some(usize::try_from(size).unwrap_or(usize::MAX)),
        },
        service: match service_name_matcher {
            Some(matcher) => Some(cx.field("service_name_matcher", |cx| string_matcher(cx, matcher))?),
            None => None,
        },
    })
}

fn method_of(cx: &mut Cx, value: i32) -> Option<Str> {
    use core_pb::RequestMethod;
    match cx.enumeration::<RequestMethod>("method", value)? {
        RequestMethod::MethodUnspecified => Some(cx.intern("GET")),
        RequestMethod::Connect => {
            cx.error_at("method", "CONNECT cannot check health");
            None
        }
        method => Some(cx.intern(method.as_str_name())),
    }
}

fn statuses(cx: &mut Cx, message: type_pb::Int64Range) -> Option<(u16, u16)> {
    let range = u16::try_from(message.start).ok().zip(u16::try_from(message.end).ok());
    let valid = range.filter(|(start, end)| (100..600).contains(start) && start < end && *end <= 600);
    if valid.is_none() {
        cx.error("must be a half-open range within 100 to 600");
    }
    valid
}

fn plain_header(cx: &mut Cx, message: core_pb::HeaderValueOption) -> Option<(Str, Str)> {
    let header = cx.required("header", message.header)?;
    if header.value.contains(['\r', '\n', '\0', '%']) {
        cx.error_at("header.value", "must be plain text without operators");
        return None;
    }
    Some((cx.name("header.key", &header.key.to_ascii_lowercase())?, cx.intern(&header.value)))
}

fn tcp_check(cx: &mut Cx, message: core_pb::health_check::TcpHealthCheck) -> Option<HealthChecker> {
    let core_pb::health_check::TcpHealthCheck { send, receive, proxy_protocol_config } = message;
    refuse!(cx; proxy_protocol_config);
    Some(HealthChecker::Tcp {
        send: match send {
            Some(send) => Some(cx.field("send", |cx| payload(cx, send))?),
            None => None,
        },
        receive: cx.each("receive", receive, payload),
    })
}

fn payload(cx: &mut Cx, message: core_pb::health_check::Payload) -> Option<std::sync::Arc<[u8]>> {
    use core_pb::health_check::payload::Payload;
    match cx.required("payload", message.payload)? {
        Payload::Binary(bytes) => Some(bytes.into()),
        Payload::Text(hex) => {
            let pairs = hex.as_bytes().chunks(2);
            let bytes =
                pairs.map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
            let bytes: Option<Vec<u8>> = if hex.len() % 2 == 0 { bytes.collect() } else { None };
            if bytes.is_none() {
                cx.error_at("text", "must be hexadecimal bytes");
            }
            bytes.map(Into::into)
        }
    }
}

fn grpc_check(cx: &mut Cx, message: core_pb::health_check::GrpcHealthCheck) -> Option<HealthChecker> {
    let core_pb::health_check::GrpcHealthCheck { service_name, authority, initial_metadata } = message;
    let metadata = cx.each("initial_metadata", initial_metadata, plain_header);
    Some(HealthChecker::Grpc { service: cx.intern(&service_name), authority: optional(cx, &authority), metadata })
}
