//! Listeners and listener filters.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::listener::v3 as listener_pb;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3 as proxy_pb;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use prost::Name as _;
use tulle_config::Listener;
use tulle_config::listener::{DrainType, ListenerFilters, Place, ProxyProtocol, TrafficDirection};

use super::access_log::access_log;
use super::address::place;
use super::chain::filter_chain;
use super::common::{metadata, truth, uint};
use super::cx::{Cx, refuse, type_name, without_effect};
use super::transport::passed;

/// Envoy's defaults.
const BUFFER_LIMIT: u32 = 1 << 20;
const INSPECT_TIMEOUT: Duration = Duration::from_secs(15);
const BACKLOG: u32 = 4096;

pub fn listener(cx: &mut Cx, message: listener_pb::Listener) -> Option<Listener> {
    let listener_pb::Listener {
        name,
        address: bind,
        additional_addresses,
        stat_prefix,
        stats_matcher,
        filter_chains,
        fcds_config,
        filter_chain_matcher,
        use_original_dst,
        default_filter_chain,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        metadata: about,
        deprecated_v1,
        drain_type,
        listener_filters,
        listener_filters_timeout,
        continue_on_listener_filters_timeout,
        transparent,
        freebind,
        socket_options,
        tcp_fast_open_queue_length,
        traffic_direction,
        udp_listener_config,
        api_listener,
        connection_balance_config,
        reuse_port,
        enable_reuse_port,
        access_log: logs,
        tcp_backlog_size,
        max_connections_to_accept_per_socket_event,
        bind_to_port,
        enable_mptcp,
        ignore_global_conn_limit,
        bypass_overload_manager,
        tcp_keepalive,
        listener_specifier,
    } = message;
    refuse!(cx; fcds_config, filter_chain_matcher, udp_listener_config, api_listener, listener_specifier, freebind,
        socket_options, enable_mptcp);
    without_effect!(cx; stats_matcher, per_connection_buffer_high_watermark_timeout, tcp_fast_open_queue_length,
        connection_balance_config, max_connections_to_accept_per_socket_event, bypass_overload_manager,
        tcp_keepalive);
    let bind = cx.required("address", bind).and_then(|bind| bound(cx, "address", bind));
    let additional = cx.each("additional_addresses", additional_addresses, additional_address);
    if filter_chains.is_empty() && default_filter_chain.is_none() {
        cx.error_at("filter_chains", "is required");
    }
    let proxied = asks_for_proxy_protocol(cx, filter_chains.iter().chain(&default_filter_chain));
    let chains = cx.each("filter_chains", filter_chains, filter_chain);
    let default_chain =
        default_filter_chain.map(|chain| cx.field("default_filter_chain", |cx| filter_chain(cx, chain)));
    let mut inspect = inspection(cx, listener_filters);
    inspect.timeout = cx.limit("listener_filters_timeout", listener_filters_timeout, Some(INSPECT_TIMEOUT));
    inspect.continue_on_timeout = continue_on_listener_filters_timeout;
    if proxied {
        inspect.proxy_protocol.get_or_insert_default();
    }
    let access_logs = cx.each("access_log", logs, access_log).into_iter().flatten().collect();
    let bind = bind?;
    let name = if name.is_empty() { bind.to_string() } else { name };
    let stat_prefix = if stat_prefix.is_empty() { bind.to_string() } else { stat_prefix };
    // The deprecated `reuse_port: false` says nothing: false is also its default.
    let _ = reuse_port;
    let deprecated_bind = deprecated_v1.and_then(|v1| v1.bind_to_port);
    Some(Listener {
        name: cx.intern(&name),
        stat_prefix: cx.intern(&stat_prefix),
        address: bind,
        additional_addresses: additional,
        reuse_port: truth(enable_reuse_port, true),
        bind_to_port: truth(bind_to_port.or(deprecated_bind), true),
        use_original_dst: truth(use_original_dst, false),
        transparent: truth(transparent, false),
        backlog: uint(tcp_backlog_size).unwrap_or(BACKLOG),
        chains,
        default_chain: match default_chain {
            Some(chain) => Some(chain?),
            None => None,
        },
        inspect,
        direction: direction(cx, traffic_direction)?,
        drain: drain(cx, drain_type)?,
        buffer_limit: uint(per_connection_buffer_limit_bytes).unwrap_or(BUFFER_LIMIT),
        access_logs,
        metadata: metadata(cx, about),
        counted: !ignore_global_conn_limit,
        gate: Arc::default(),
    })
}

/// The deprecated way to ask for the listener filter: the first chain speaks for all of them.
fn asks_for_proxy_protocol<'a>(cx: &mut Cx, chains: impl Iterator<Item = &'a listener_pb::FilterChain>) -> bool {
    let mut asks = chains.map(|chain| truth(chain.use_proxy_proto, false));
    let first = asks.next().unwrap_or(false);
    if !first && asks.any(|asks| asks) {
        cx.field("filter_chains", |cx| cx.warn("use_proxy_proto has no effect: the first chain does not have it"));
    }
    first
}

fn bound(cx: &mut Cx, field: &str, message: core_pb::Address) -> Option<Place> {
    cx.field(field, |cx| place(cx, message))
}

fn additional_address(cx: &mut Cx, message: listener_pb::AdditionalAddress) -> Option<Place> {
    let listener_pb::AdditionalAddress { address, socket_options, tcp_keepalive } = message;
    refuse!(cx; socket_options);
    without_effect!(cx; tcp_keepalive);
    cx.required("address", address).and_then(|message| bound(cx, "address", message))
}

fn direction(cx: &mut Cx, value: i32) -> Option<TrafficDirection> {
    Some(match cx.enumeration::<core_pb::TrafficDirection>("traffic_direction", value)? {
        core_pb::TrafficDirection::Unspecified => TrafficDirection::Unspecified,
        core_pb::TrafficDirection::Inbound => TrafficDirection::Inbound,
        core_pb::TrafficDirection::Outbound => TrafficDirection::Outbound,
    })
}

fn drain(cx: &mut Cx, value: i32) -> Option<DrainType> {
    Some(match cx.enumeration::<listener_pb::listener::DrainType>("drain_type", value)? {
        listener_pb::listener::DrainType::Default => DrainType::Default,
        listener_pb::listener::DrainType::ModifyOnly => DrainType::ModifyOnly,
    })
}

fn inspection(cx: &mut Cx, filters: Vec<listener_pb::ListenerFilter>) -> ListenerFilters {
    let mut inspect = ListenerFilters {
        tls: false,
        http: false,
        proxy_protocol: None,
        original_dst: false,
        timeout: Some(INSPECT_TIMEOUT),
        continue_on_timeout: false,
    };
    for filter in cx.each("listener_filters", filters, listener_filter) {
        match filter {
            Inspector::Tls => inspect.tls = true,
            Inspector::Http => inspect.http = true,
            Inspector::OriginalDst => inspect.original_dst = true,
            Inspector::Proxy(proxy) => inspect.proxy_protocol = Some(proxy),
        }
    }
    inspect
}

enum Inspector {
    Tls,
    Http,
    OriginalDst,
    Proxy(ProxyProtocol),
}

fn listener_filter(cx: &mut Cx, message: listener_pb::ListenerFilter) -> Option<Inspector> {
    use listener_pb::listener_filter::ConfigType;
    let listener_pb::ListenerFilter { name, filter_disabled, config_type } = message;
    refuse!(cx; filter_disabled);
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            cx.refuse("config_discovery");
            return None;
        }
        // As for HTTP filters, the well-known name alone is enough.
        None => return by_name(cx, &name),
    };
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == TlsInspector::full_name() {
            cx.unpack::<TlsInspector>(&any).map(|inspector| tls_inspector(cx, inspector))
        } else if typed == HttpInspector::full_name() {
            cx.unpack::<HttpInspector>(&any).map(|HttpInspector {}| Inspector::Http)
        } else if typed == OriginalDst::full_name() {
            Some(Inspector::OriginalDst)
        } else if typed == proxy_pb::ProxyProtocol::full_name() {
            cx.unpack::<proxy_pb::ProxyProtocol>(&any).and_then(|proxy| proxy_protocol(cx, proxy))
        } else {
            cx.error(format!("the listener filter {typed} is not supported"));
            None
        }
    })
}

fn by_name(cx: &mut Cx, name: &str) -> Option<Inspector> {
    match name {
        "envoy.filters.listener.tls_inspector" => Some(Inspector::Tls),
        "envoy.filters.listener.http_inspector" => Some(Inspector::Http),
        "envoy.filters.listener.original_dst" => Some(Inspector::OriginalDst),
        "envoy.filters.listener.proxy_protocol" => Some(Inspector::Proxy(ProxyProtocol::default())),
        _ => {
            cx.error(format!("the listener filter {name:?} is not supported"));
            None
        }
    }
}

fn tls_inspector(cx: &mut Cx, message: TlsInspector) -> Inspector {
    let TlsInspector {
        enable_ja3_fingerprinting,
        enable_ja4_fingerprinting,
        initial_read_buffer_size,
        close_connection_on_client_hello_parsing_errors,
        max_client_hello_size,
    } = message;
    without_effect!(cx; enable_ja3_fingerprinting, enable_ja4_fingerprinting, initial_read_buffer_size,
        close_connection_on_client_hello_parsing_errors, max_client_hello_size);
    Inspector::Tls
}

fn proxy_protocol(cx: &mut Cx, message: proxy_pb::ProxyProtocol) -> Option<Inspector> {
    use core_pb::proxy_protocol_config::Version;
    let proxy_pb::ProxyProtocol {
        rules,
        allow_requests_without_proxy_protocol,
        pass_through_tlvs,
        disallowed_versions,
        stat_prefix,
        tlv_location,
    } = message;
    refuse!(cx; rules);
    without_effect!(cx; stat_prefix, tlv_location);
    let without =
        cx.each("disallowed_versions", disallowed_versions, |cx, version| cx.enumeration::<Version>("", version));
    Some(Inspector::Proxy(ProxyProtocol {
        allow_requests_without: allow_requests_without_proxy_protocol,
        without_v1: without.contains(&Version::V1),
        without_v2: without.contains(&Version::V2),
        pass: passed(cx, pass_through_tlvs)?,
    }))
}
