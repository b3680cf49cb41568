//! Which HTTP a cluster speaks, and the limits on its connections.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm_pb;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as http_pb;
use prost::Name as _;
use tulle_config::HttpProtocol;
use tulle_config::cluster::{ConnectionLimits, NameByRequest, RequestPolicies};

use super::common::{optional, uint};
use super::cx::{Cx, refuse, type_name, without_effect};
use super::forward::mirror;
use super::http_options::{http1, http2};
use super::{hash_policy, retry};

/// The key of the typed options.
const EXTENSION: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const CODEC: &str = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
/// Envoy's defaults.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const RESPONSE_HEADERS_KB: u32 = 60;
const RESPONSE_HEADERS: u32 = 100;

pub struct Protocol {
    pub protocol: HttpProtocol,
    pub limits: ConnectionLimits,
    pub tls_name: Option<NameByRequest>,
    pub policies: Option<Arc<RequestPolicies>>,
}

/// Reads the typed options, else the deprecated fields of the cluster itself.
pub fn protocol(cx: &mut Cx, cluster: &mut cluster_pb::Cluster) -> Option<Protocol> {
    let mut extensions = std::mem::take(&mut cluster.typed_extension_protocol_options);
    let typed = extensions.remove(EXTENSION);
    for (name, any) in extensions {
        if any.type_url.ends_with(&http_pb::HttpProtocolOptions::full_name()) {
            cx.error_at("typed_extension_protocol_options", format!("the key must be {EXTENSION}, not {name}"));
        } else {
            cx.error_at("typed_extension_protocol_options", format!("{name} is not supported"));
        }
    }
    let legacy_max = uint(cluster.max_requests_per_connection);
    match typed {
        Some(any) => cx.field(&format!("typed_extension_protocol_options[{EXTENSION}]"), |cx| {
            let message = cx.unpack::<http_pb::HttpProtocolOptions>(&any)?;
            typed_options(cx, message, legacy_max)
        }),
        None => legacy(cx, cluster, legacy_max),
    }
}

fn typed_options(cx: &mut Cx, message: http_pb::HttpProtocolOptions, legacy_max: Option<u32>) -> Option<Protocol> {
    use http_pb::http_protocol_options::UpstreamProtocolOptions as Kind;
    let http_pb::HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = message;
    cx.each("http_filters", http_filters, codec_filter);
    refuse!(cx; header_validation_config, outlier_detection);
    let policies = RequestPolicies {
        retry: retry_policy.and_then(|message| cx.field("retry_policy", |cx| retry::retry_policy(cx, message))),
        hash: cx.each("hash_policy", hash_policy, hash_policy::hash_policy).into(),
        mirrors: cx.each("request_mirror_policies", request_mirror_policies, mirror).into(),
    };
    let any = policies.retry.is_some() || !policies.hash.is_empty() || !policies.mirrors.is_empty();
    let names = upstream_http_protocol_options;
    let tls_name = names.and_then(|names| cx.field("upstream_http_protocol_options", |cx| name_by_request(cx, names)));
    let protocol = match cx.required("upstream_protocol_options", upstream_protocol_options)? {
        Kind::ExplicitHttpConfig(explicit) => cx.field("explicit_http_config", |cx| explicit_config(cx, explicit))?,
        Kind::UseDownstreamProtocolConfig(both) => cx.field("use_downstream_protocol_config", |cx| {
            let http3_protocol_options = both.http3_protocol_options;
            refuse!(cx; http3_protocol_options);
            Some(HttpProtocol::UseDownstream {
                http1: cx.field("http_protocol_options", |cx| http1(cx, both.http_protocol_options))?,
                http2: cx.field("http2_protocol_options", |cx| http2(cx, both.http2_protocol_options))?,
            })
        })?,
        Kind::AutoConfig(both) => cx.field("auto_config", |cx| {
            let http_pb::http_protocol_options::AutoHttpConfig {
                http_protocol_options,
                http2_protocol_options,
                http3_protocol_options,
                alternate_protocols_cache_options,
            } = both;
            refuse!(cx; http3_protocol_options, alternate_protocols_cache_options);
            Some(HttpProtocol::Alpn {
                http1: cx.field("http_protocol_options", |cx| http1(cx, http_protocol_options))?,
                http2: cx.field("http2_protocol_options", |cx| http2(cx, http2_protocol_options))?,
            })
        })?,
    };
    let common = common_http_protocol_options.unwrap_or_default();
    let limits = cx.field("common_http_protocol_options", |cx| limits(cx, common, legacy_max));
    Some(Protocol { protocol, limits, tls_name, policies: any.then(|| Arc::new(policies)) })
}

fn name_by_request(cx: &mut Cx, message: core_pb::UpstreamHttpProtocolOptions) -> Option<NameByRequest> {
    let core_pb::UpstreamHttpProtocolOptions { auto_sni, auto_san_validation, override_auto_sni_header } = message;
    let header = optional(cx, &override_auto_sni_header.to_ascii_lowercase());
    (auto_sni || auto_san_validation).then_some(NameByRequest { header, sent: auto_sni, verified: auto_san_validation })
}

/// The codec must stand last in a list of upstream filters; alone it says nothing.
fn codec_filter(cx: &mut Cx, message: hcm_pb::HttpFilter) -> Option<()> {
    use hcm_pb::http_filter::ConfigType;
    let hcm_pb::HttpFilter { name, is_optional, disabled: _, config_type } = message;
    let typed = match &config_type {
        Some(ConfigType::TypedConfig(any)) => type_name(&any.type_url),
        _ => "",
    };
    if typed == CODEC {
        return None;
    }
    match is_optional {
        true => cx.warn(format!("the optional filter {name:?} is left out")),
        false => cx.error(format!("the upstream filter {name:?} is not supported")),
    }
    None
}

fn explicit_config(cx: &mut Cx, message: http_pb::http_protocol_options::ExplicitHttpConfig) -> Option<HttpProtocol> {
    use http_pb::http_protocol_options::explicit_http_config::ProtocolConfig;
    Some(match cx.required("protocol_config", message.protocol_config)? {
        ProtocolConfig::HttpProtocolOptions(options) => {
            HttpProtocol::Http1(cx.field("http_protocol_options", |cx| http1(cx, Some(options)))?)
        }
        ProtocolConfig::Http2ProtocolOptions(options) => {
            HttpProtocol::Http2(cx.field("http2_protocol_options", |cx| http2(cx, Some(options)))?)
        }
        ProtocolConfig::Http3ProtocolOptions(_) => {
            cx.error("HTTP/3 is not supported");
            return None;
        }
    })
}

fn legacy(cx: &mut Cx, cluster: &mut cluster_pb::Cluster, legacy_max: Option<u32>) -> Option<Protocol> {
    use cluster_pb::cluster::ClusterProtocolSelection as Selection;
    let first = cluster.http_protocol_options.take();
    let second = cluster.http2_protocol_options.take();
    let protocol = match cx.enumeration::<Selection>("protocol_selection", cluster.protocol_selection)? {
        Selection::UseDownstreamProtocol => HttpProtocol::UseDownstream {
            http1: cx.field("http_protocol_options", |cx| http1(cx, first))?,
            http2: cx.field("http2_protocol_options", |cx| http2(cx, second))?,
        },
        Selection::UseConfiguredProtocol if second.is_some() => {
            HttpProtocol::Http2(cx.field("http2_protocol_options", |cx| http2(cx, second))?)
        }
        Selection::UseConfiguredProtocol => {
            HttpProtocol::Http1(cx.field("http_protocol_options", |cx| http1(cx, first))?)
        }
    };
    let common = cluster.common_http_protocol_options.take().unwrap_or_default();
    let limits = cx.field("common_http_protocol_options", |cx| limits(cx, common, legacy_max));
    let names = cluster.upstream_http_protocol_options.take();
    let tls_name = names.and_then(|names| cx.field("upstream_http_protocol_options", |cx| name_by_request(cx, names)));
    Some(Protocol { protocol, limits, tls_name, policies: None })
}

fn limits(cx: &mut Cx, message: core_pb::HttpProtocolOptions, legacy_max: Option<u32>) -> ConnectionLimits {
    let core_pb::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        headers_with_underscores_action,
        max_requests_per_connection,
    } = message;
    without_effect!(cx; max_connection_duration_jitter, headers_with_underscores_action);
    let kilobytes = uint(max_response_headers_kb).unwrap_or(RESPONSE_HEADERS_KB);
    ConnectionLimits {
        idle_timeout: cx.limit("idle_timeout", idle_timeout, Some(IDLE_TIMEOUT)),
        max_connection_duration: cx.limit("max_connection_duration", max_connection_duration, None),
        max_stream_duration: cx.limit("max_stream_duration", max_stream_duration, None),
        max_requests_per_connection: uint(max_requests_per_connection).or(legacy_max).filter(|limit| *limit != 0),
        max_response_headers: uint(max_headers_count).unwrap_or(RESPONSE_HEADERS) as usize,
        max_response_headers_bytes: kilobytes as usize * 1024,
    }
}
