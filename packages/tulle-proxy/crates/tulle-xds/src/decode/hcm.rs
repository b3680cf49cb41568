//! The HTTP connection manager.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm_pb;
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3 as early_pb;
use hcm_pb::http_connection_manager as inner_pb;
use prost::Name as _;
use tulle_config::hcm::{
    Codec, Detection, EscapedSlashes, ForwardClientCert, ForwardClientCertMode, Forwarding, HcmTimeouts, HostHandling,
    PathHandling, RequestId, Scheme, ServerHeader, StripPort, Underscores, Upgrade,
};
use tulle_config::{Cidr, Hcm, RouteSource};
use tulle_route::HeaderMutation;

use super::access_log::access_log;
use super::address::cidr;
use super::common::{optional, truth, uint};
use super::cx::{Cx, refuse, type_name, without_effect};
use super::filters::http_filters;
use super::http_options::{http1, http2};
use super::local_reply::local_reply_config;
use super::mutation::header_mutation;
use super::route::route_config;
use super::scopes::scoped_routes;
use super::tracing::tracing;

pub fn hcm(cx: &mut Cx, message: hcm_pb::HttpConnectionManager) -> Option<Hcm> {
    let message = supported(cx, message);
    let common = message.common_http_protocol_options.unwrap_or_default();
    let common = cx.field("common_http_protocol_options", |cx| common_options(cx, common));
    let routes = cx.required("route_specifier", message.route_specifier.clone()).and_then(|from| routes(cx, from));
    let timeouts = timeouts(cx, &message, common.as_ref().map(|common| &common.message));
    let forwarding = forwarding(cx, &message);
    let path = path_handling(cx, &message);
    let host = host_handling(&message);
    let codec = codec(cx, message.codec_type);
    let server = server_header(cx, &message);
    let http1 = cx.field("http_protocol_options", |cx| http1(cx, message.http_protocol_options));
    let http2 = cx.field("http2_protocol_options", |cx| http2(cx, message.http2_protocol_options));
    let filters = http_filters(cx, message.http_filters);
    let upgrades = cx.each("upgrade_configs", message.upgrade_configs, upgrade);
    let access_logs = cx.each("access_log", message.access_log, access_log).into_iter().flatten().collect();
    let early = cx.each("early_header_mutation_extensions", message.early_header_mutation_extensions, early_mutation);
    let scheme = scheme(cx, message.scheme_header_transformation);
    let common = common?;
    let local_reply = message.local_reply_config;
    Some(Hcm {
        stat_prefix: cx.name("stat_prefix", &message.stat_prefix)?,
        codec: codec?,
        routes: routes?,
        filters,
        access_logs,
        server: server?,
        forwarding: forwarding?,
        path: path?,
        timeouts: timeouts?,
        request_id: RequestId {
            generate: truth(message.generate_request_id, true),
            preserve_external: message.preserve_external_request_id,
            always_set_in_response: message.always_set_request_id_in_response,
        },
        upgrades,
        http1: http1?,
        http2: http2?,
        max_request_headers_bytes: uint(message.max_request_headers_kb).unwrap_or(60) as usize * 1024,
        max_headers: uint(common.message.max_headers_count).unwrap_or(100) as usize,
        max_requests_per_connection: uint(common.message.max_requests_per_connection).filter(|limit| *limit != 0),
        underscores: common.underscores,
        host,
        stream_error_on_invalid_message: truth(message.stream_error_on_invalid_http_message, false),
        proxy_100_continue: message.proxy_100_continue,
        early: early.concat().into(),
        scheme: scheme?,
        local_reply: local_reply
            .map(|config| Box::new(cx.field("local_reply_config", |cx| local_reply_config(cx, config)))),
        tracing: match message.tracing {
            Some(settings) => cx.field("tracing", |cx| tracing(cx, settings)),
            None => None,
        },
    })
}

/// Reports every field that is set and has no place in [`Hcm`], and gives the message back.
#[rustfmt::skip]
fn supported(cx: &mut Cx, message: hcm_pb::HttpConnectionManager) -> hcm_pb::HttpConnectionManager {
    let hcm_pb::HttpConnectionManager {
        // Decoded by the functions of this file.
        codec_type: _, stat_prefix: _, http_filters: _, tracing: _, common_http_protocol_options: _,
        http_protocol_options: _, http2_protocol_options: _, server_name: _, server_header_transformation: _,
        max_request_headers_kb: _, stream_idle_timeout: _, request_timeout: _, request_headers_timeout: _,
        drain_timeout: _, delayed_close_timeout: _, access_log: _, use_remote_address: _, xff_num_trusted_hops: _,
        skip_xff_append: _, via: _, generate_request_id: _, preserve_external_request_id: _,
        always_set_request_id_in_response: _, forward_client_cert_details: _, set_current_client_cert_details: _,
        proxy_100_continue: _, upgrade_configs: _, normalize_path: _, merge_slashes: _,
        path_with_escaped_slashes_action: _, strip_matching_host_port: _, stream_error_on_invalid_http_message: _,
        strip_trailing_host_dot: _, route_specifier: _, strip_port_mode: _, internal_address_config: _,
        append_x_forwarded_port: _, original_ip_detection_extensions: _, early_header_mutation_extensions: _,
        scheme_header_transformation: _,
        // UUIDs are what there is; the extension's own settings are about tracing decisions in them.
        request_id_extension: _,
        // Reported below.
        add_user_agent, http1_safe_max_connection_duration, http3_protocol_options,
        stream_flush_timeout, drain_timeout_jitter, access_log_flush_interval, flush_access_log_on_new_request,
        access_log_options, forward_client_cert_matcher, represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        local_reply_config: _, path_normalization_options, proxy_status_config, typed_header_validation_config,
        append_local_overload, add_proxy_protocol_connection_state, forward_proto_config,
    } = &message;
    refuse!(cx; add_user_agent, http3_protocol_options, forward_client_cert_matcher,
        path_normalization_options, typed_header_validation_config, forward_proto_config);
    without_effect!(cx; http1_safe_max_connection_duration, stream_flush_timeout, drain_timeout_jitter,
        access_log_flush_interval, flush_access_log_on_new_request, access_log_options,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6, proxy_status_config, append_local_overload,
        add_proxy_protocol_connection_state);
    message
}

fn codec(cx: &mut Cx, value: i32) -> Option<Codec> {
    Some(match cx.enumeration::<inner_pb::CodecType>("codec_type", value)? {
        inner_pb::CodecType::Auto => Codec::Auto,
        inner_pb::CodecType::Http1 => Codec::Http1,
        inner_pb::CodecType::Http2 => Codec::Http2,
        inner_pb::CodecType::Http3 => {
            cx.error_at("codec_type", "HTTP/3 is not supported");
            return None;
        }
    })
}

struct Common {
    underscores: Underscores,
    message: core_pb::HttpProtocolOptions,
}

fn common_options(cx: &mut Cx, message: core_pb::HttpProtocolOptions) -> Option<Common> {
    use core_pb::http_protocol_options::HeadersWithUnderscoresAction as Action;
    let core_pb::HttpProtocolOptions {
        idle_timeout: _,
        max_connection_duration: _,
        max_connection_duration_jitter,
        max_headers_count: _,
        max_response_headers_kb,
        max_stream_duration: _,
        headers_with_underscores_action,
        max_requests_per_connection: _,
    } = &message;
    without_effect!(cx; max_connection_duration_jitter, max_response_headers_kb);
    let action = cx.enumeration::<Action>("headers_with_underscores_action", *headers_with_underscores_action)?;
    let underscores = match action {
        Action::Allow => Underscores::Allow,
        Action::RejectRequest => Underscores::Reject,
        Action::DropHeader => Underscores::Drop,
    };
    Some(Common { underscores, message })
}

fn routes(cx: &mut Cx, specifier: inner_pb::RouteSpecifier) -> Option<RouteSource> {
    match specifier {
        inner_pb::RouteSpecifier::RouteConfig(config) => {
            cx.field("route_config", |cx| route_config(cx, config)).map(|config| RouteSource::Inline(Arc::new(config)))
        }
        inner_pb::RouteSpecifier::Rds(hcm_pb::Rds { config_source, route_config_name }) => cx.field("rds", |cx| {
            let name = cx.name("route_config_name", &route_config_name)?;
            let from = super::source::source(cx, "config_source", config_source, &name);
            from.map(|(key, source)| RouteSource::Rds(key, source))
        }),
        inner_pb::RouteSpecifier::ScopedRoutes(scoped) => {
            let scoped = cx.field("scoped_routes", |cx| scoped_routes(cx, scoped));
            scoped.map(|scoped| RouteSource::Scoped(Arc::new(scoped)))
        }
    }
}

fn server_header(cx: &mut Cx, message: &hcm_pb::HttpConnectionManager) -> Option<ServerHeader> {
    use inner_pb::ServerHeaderTransformation as Transformation;
    let name = if message.server_name.is_empty() { "envoy" } else { &message.server_name };
    let name = cx.intern(name);
    let how = cx.enumeration::<Transformation>("server_header_transformation", message.server_header_transformation)?;
    Some(match how {
        Transformation::Overwrite => ServerHeader::Overwrite(name),
        Transformation::AppendIfAbsent => ServerHeader::AppendIfAbsent(name),
        Transformation::PassThrough => ServerHeader::PassThrough,
    })
}

fn forwarding(cx: &mut Cx, message: &hcm_pb::HttpConnectionManager) -> Option<Forwarding> {
    use inner_pb::ForwardClientCertDetails as Details;
    let details = cx.enumeration::<Details>("forward_client_cert_details", message.forward_client_cert_details)?;
    let set = message.set_current_client_cert_details.unwrap_or_default();
    let inner_pb::SetCurrentClientCertDetails { subject, cert, chain, dns, uri, issuer, format } = set;
    cx.field("set_current_client_cert_details", |cx| {
        refuse!(cx; format);
    });
    Some(Forwarding {
        use_remote_address: truth(message.use_remote_address, false),
        skip_xff_append: message.skip_xff_append,
        xff_num_trusted_hops: message.xff_num_trusted_hops,
        internal: internal_ranges(cx, message.internal_address_config.clone().unwrap_or_default()),
        client_cert: ForwardClientCert {
            mode: match details {
                Details::Sanitize => ForwardClientCertMode::Sanitize,
                Details::ForwardOnly => ForwardClientCertMode::ForwardOnly,
                Details::AppendForward => ForwardClientCertMode::AppendForward,
                Details::SanitizeSet => ForwardClientCertMode::SanitizeSet,
                Details::AlwaysForwardOnly => ForwardClientCertMode::AlwaysForwardOnly,
            },
            subject: truth(subject, false),
            cert,
            chain,
            dns,
            uri,
            issuer,
        },
        via: optional(cx, &message.via),
        port: message.append_x_forwarded_port,
        detection: detection(cx, message)?,
    })
}

fn detection(cx: &mut Cx, message: &hcm_pb::HttpConnectionManager) -> Option<Box<[Detection]>> {
    let extensions = message.original_ip_detection_extensions.clone();
    if !extensions.is_empty() && (truth(message.use_remote_address, false) || message.xff_num_trusted_hops > 0) {
        let reason = "goes neither with use_remote_address nor with xff_num_trusted_hops";
        cx.error_at("original_ip_detection_extensions", reason);
        return None;
    }
    let wanted = extensions.len();
    let all = cx.each("original_ip_detection_extensions", extensions, super::detection::extension);
    (all.len() == wanted).then(|| all.into())
}

fn early_mutation(cx: &mut Cx, message: core_pb::TypedExtensionConfig) -> Option<Vec<HeaderMutation>> {
    let core_pb::TypedExtensionConfig { name, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    if type_name(&any.type_url) != early_pb::HeaderMutation::full_name() {
        cx.error(format!("the early header mutation {name:?} is not supported"));
        return None;
    }
    cx.field("typed_config", |cx| {
        let early_pb::HeaderMutation { mutations } = cx.unpack(&any)?;
        Some(cx.each("mutations", mutations, header_mutation))
    })
}

fn scheme(cx: &mut Cx, message: Option<core_pb::SchemeHeaderTransformation>) -> Option<Option<Scheme>> {
    use core_pb::scheme_header_transformation::Transformation::SchemeToOverwrite;
    let Some(message) = message else { return Some(None) };
    let core_pb::SchemeHeaderTransformation { match_upstream, transformation } = message;
    cx.field("scheme_header_transformation", |cx| {
        refuse!(cx; match_upstream);
        match transformation {
            None => Some(None),
            Some(SchemeToOverwrite(scheme)) => match &*scheme {
                "http" => Some(Some(Scheme::Http)),
                "https" => Some(Some(Scheme::Https)),
                _ => {
                    cx.error_at("scheme_to_overwrite", "must be http or https");
                    None
                }
            },
        }
    })
}

/// Connections over Unix sockets, which could count as internal, do not occur.
fn internal_ranges(cx: &mut Cx, message: inner_pb::InternalAddressConfig) -> Vec<Cidr> {
    let inner_pb::InternalAddressConfig { unix_sockets: _, cidr_ranges } = message;
    cx.field("internal_address_config", |cx| cx.each("cidr_ranges", cidr_ranges, cidr))
}

fn path_handling(cx: &mut Cx, message: &hcm_pb::HttpConnectionManager) -> Option<PathHandling> {
    use inner_pb::PathWithEscapedSlashesAction as Action;
    let action = message.path_with_escaped_slashes_action;
    let action = cx.enumeration::<Action>("path_with_escaped_slashes_action", action)?;
    Some(PathHandling {
        normalize: truth(message.normalize_path, false),
        merge_slashes: message.merge_slashes,
        escaped_slashes: match action {
            Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::KeepUnchanged,
            Action::RejectRequest => EscapedSlashes::Reject,
            Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
    })
}

fn host_handling(message: &hcm_pb::HttpConnectionManager) -> HostHandling {
    use inner_pb::StripPortMode;
    let strip_port = match message.strip_port_mode {
        Some(StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
        _ if message.strip_matching_host_port => StripPort::Matching,
        _ => StripPort::Never,
    };
    HostHandling { strip_port, strip_trailing_dot: message.strip_trailing_host_dot }
}

fn timeouts(
    cx: &mut Cx,
    message: &hcm_pb::HttpConnectionManager,
    common: Option<&core_pb::HttpProtocolOptions>,
) -> Option<HcmTimeouts> {
    let common = common?;
    // Envoy's defaults throughout.
    let (five_minutes, hour) = (Duration::from_secs(300), Duration::from_secs(3600));
    Some(HcmTimeouts {
        request: cx.limit("request_timeout", message.request_timeout, None),
        request_headers: cx.limit("request_headers_timeout", message.request_headers_timeout, None),
        stream_idle: cx.limit("stream_idle_timeout", message.stream_idle_timeout, Some(five_minutes)),
        idle: cx.limit("common_http_protocol_options.idle_timeout", common.idle_timeout, Some(hour)),
        max_connection_duration: cx.limit(
            "common_http_protocol_options.max_connection_duration",
            common.max_connection_duration,
            None,
        ),
        max_stream_duration: cx.limit(
            "common_http_protocol_options.max_stream_duration",
            common.max_stream_duration,
            None,
        ),
        drain: cx.duration("drain_timeout", message.drain_timeout).unwrap_or(Duration::from_secs(5)),
        delayed_close: cx.limit("delayed_close_timeout", message.delayed_close_timeout, Some(Duration::from_secs(1))),
    })
}

fn upgrade(cx: &mut Cx, message: inner_pb::UpgradeConfig) -> Option<Upgrade> {
    let inner_pb::UpgradeConfig { upgrade_type, filters, enabled } = message;
    refuse!(cx; filters);
    Some(Upgrade {
        protocol: cx.name("upgrade_type", &upgrade_type.to_ascii_lowercase())?,
        enabled: truth(enabled, true),
    })
}
