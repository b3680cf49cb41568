//! HTTP/1 and HTTP/2 protocol options, shared by listeners and clusters.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::http::header_formatters::preserve_case::v3 as preserve_pb;
use tulle_config::hcm::{HeaderCase, Http1Options, Http2Options, KeepAlive};

use super::common::{optional, truth, uint};
use super::cx::{Cx, refuse, without_effect};

pub fn http1(cx: &mut Cx, message: Option<core_pb::Http1ProtocolOptions>) -> Option<Http1Options> {
    use core_pb::http1_protocol_options::header_key_format::HeaderFormat;
    let Some(message) = message else { return Some(Http1Options::default()) };
    let core_pb::Http1ProtocolOptions {
        allow_absolute_url,
        accept_http_10,
        default_host_for_http_10,
        header_key_format,
        enable_trailers,
        allow_chunked_length,
        override_stream_error_on_invalid_http_message,
        send_fully_qualified_url,
        use_balsa_parser,
        allow_custom_methods,
        ignore_http_11_upgrade,
    } = message;
    refuse!(cx; send_fully_qualified_url, ignore_http_11_upgrade, allow_chunked_length);
    without_effect!(cx; override_stream_error_on_invalid_http_message, use_balsa_parser);
    let header_case = match header_key_format.and_then(|format| format.header_format) {
        None => HeaderCase::Lower,
        Some(HeaderFormat::ProperCaseWords(_)) => HeaderCase::Proper,
        Some(HeaderFormat::StatefulFormatter(formatter)) => {
            cx.field("header_key_format.stateful_formatter", |cx| stateful(cx, formatter))?
        }
    };
    Some(Http1Options {
        allow_absolute_url: truth(allow_absolute_url, true),
        accept_http_1_0: accept_http_10,
        default_host_for_http_1_0: optional(cx, &default_host_for_http_10),
        header_case,
        enable_trailers,
        allow_custom_methods,
    })
}

/// The one formatter that there is: names keep the case in which they came.
fn stateful(cx: &mut Cx, message: core_pb::TypedExtensionConfig) -> Option<HeaderCase> {
    use preserve_pb::preserve_case_formatter_config::FormatterTypeOnEnvoyHeaders as Others;
    let core_pb::TypedExtensionConfig { name: _, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    cx.field("typed_config", |cx| {
        let preserve_pb::PreserveCaseFormatterConfig { forward_reason_phrase, formatter_type_on_envoy_headers } =
            cx.unpack(&any)?;
        refuse!(cx; forward_reason_phrase);
        let others = cx.enumeration::<Others>("formatter_type_on_envoy_headers", formatter_type_on_envoy_headers)?;
        Some(match others {
            Others::Default => HeaderCase::Preserve,
            Others::ProperCase => HeaderCase::PreserveElseProper,
        })
    })
}

pub fn http2(cx: &mut Cx, message: Option<core_pb::Http2ProtocolOptions>) -> Option<Http2Options> {
    let defaults = Http2Options::default();
    let Some(message) = message else { return Some(defaults) };
    let core_pb::Http2ProtocolOptions {
        hpack_table_size,
        max_concurrent_streams,
        initial_stream_window_size,
        initial_connection_window_size,
        allow_connect,
        allow_metadata,
        max_outbound_frames,
        max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload,
        max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_messaging,
        override_stream_error_on_invalid_http_message,
        custom_settings_parameters,
        connection_keepalive,
        use_oghttp2_codec,
        max_metadata_size,
        enable_huffman_encoding,
        max_header_field_size_kb,
        disallow_obs_text,
        stream_reset_burst,
        stream_reset_rate,
    } = message;
    refuse!(cx; allow_metadata, custom_settings_parameters);
    without_effect!(cx; max_outbound_frames, max_outbound_control_frames, max_consecutive_inbound_frames_with_empty_payload,
        max_inbound_priority_frames_per_stream, max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_messaging, override_stream_error_on_invalid_http_message, use_oghttp2_codec,
        max_metadata_size, enable_huffman_encoding, max_header_field_size_kb, disallow_obs_text, stream_reset_burst,
        stream_reset_rate);
    let window = |cx: &mut Cx, name: &str, value: Option<u32>, default: u32| match value {
        None => default,
        Some(size) if (65_535..=0x7fff_ffff).contains(&size) => size,
        Some(size) => {
            cx.error_at(name, format!("{size} is not between 65535 and 2147483647"));
            default
        }
    };
    Some(Http2Options {
        max_concurrent_streams: match uint(max_concurrent_streams) {
            Some(0) => {
                cx.error_at("max_concurrent_streams", "must be at least 1");
                return None;
            }
            other => other.unwrap_or(defaults.max_concurrent_streams),
        },
        initial_stream_window: window(
            cx,
            "initial_stream_window_size",
            uint(initial_stream_window_size),
            defaults.initial_stream_window,
        ),
        initial_connection_window: window(
            cx,
            "initial_connection_window_size",
            uint(initial_connection_window_size),
            defaults.initial_connection_window,
        ),
        header_table_size: uint(hpack_table_size).unwrap_or(defaults.header_table_size),
        allow_connect,
        keepalive: match connection_keepalive {
            Some(keepalive) => Some(cx.field("connection_keepalive", |cx| keep_alive(cx, keepalive))?),
            None => None,
        },
    })
}

fn keep_alive(cx: &mut Cx, message: core_pb::KeepaliveSettings) -> Option<KeepAlive> {
    let core_pb::KeepaliveSettings { interval, timeout, interval_jitter, connection_idle_interval } = message;
    without_effect!(cx; interval_jitter);
    let timeout = cx.required("timeout", timeout)?;
    Some(KeepAlive {
        interval: cx.limit("interval", interval, None),
        timeout: cx.duration("timeout", Some(timeout))?,
        connection_idle_interval: cx.limit("connection_idle_interval", connection_idle_interval, None),
    })
}
