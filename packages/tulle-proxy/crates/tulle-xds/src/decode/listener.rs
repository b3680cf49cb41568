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
use tulle_config::listener::{
    Destinations, DrainType, Inspector, ListenerFilters, Place, ProxyProtocol, SocketOption, SocketState,
    TrafficDirection,
};

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
    refuse!(cx; fcds_config, filter_chain_matcher, udp_listener_config, api_listener, listener_specifier,
        enable_mptcp);
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
    let options = cx.each("socket_options", socket_options, socket_option);
    let freebind = truth(freebind, false).then(freebind_option);
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
        socket_options: options.into_iter().chain(freebind).collect(),
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
        disabled: Vec::new(),
    };
    for filter in cx.each("listener_filters", filters, listener_filter) {
        let (filter, disabled) = filter;
        let which = match filter {
            Decoded::Tls => {
                inspect.tls = true;
                Inspector::Tls
            }
            Decoded::Http => {
                inspect.http = true;
                Inspector::Http
            }
            Decoded::OriginalDst => {
                inspect.original_dst = true;
                Inspector::OriginalDst
            }
            Decoded::Proxy(proxy) => {
                inspect.proxy_protocol = Some(proxy);
                Inspector::ProxyProtocol
            }
        };
        inspect.disabled.extend(disabled.map(|at| (which, at)));
    }
    inspect
}

enum Decoded {
    Tls,
    Http,
    OriginalDst,
    Proxy(ProxyProtocol),
}

fn listener_filter(cx: &mut Cx, message: listener_pb::ListenerFilter) -> Option<(Decoded, Option<Destinations>)> {
    let listener_pb::ListenerFilter { name, filter_disabled, config_type } = message;
    let disabled = match filter_disabled {
        Some(at) => Some(cx.field("filter_disabled", |cx| destinations(cx, at))?),
        None => None,
    };
    inspector(cx, &name, config_type).map(|decoded| (decoded, disabled))
}

fn destinations(cx: &mut Cx, message: listener_pb::ListenerFilterChainMatchPredicate) -> Option<Destinations> {
    use listener_pb::listener_filter_chain_match_predicate::{MatchSet, Rule};
    let all = |cx: &mut Cx, name: &str, MatchSet { rules }: MatchSet| {
        let wanted = rules.len();
        let rules = cx.each(&format!("{name}.rules"), rules, destinations);
        (rules.len() == wanted).then_some(rules)
    };
    Some(match cx.required("rule", message.rule)? {
        Rule::AnyMatch(any) => Destinations::Any(any),
        Rule::DestinationPortRange(range) => Destinations::Ports(range.start, range.end),
        Rule::NotMatch(inner) => Destinations::Not(Box::new(cx.field("not_match", |cx| destinations(cx, *inner))?)),
        Rule::AndMatch(set) => Destinations::All(all(cx, "and_match", set)?),
        Rule::OrMatch(set) => Destinations::OneOf(all(cx, "or_match", set)?),
    })
}

fn socket_option(cx: &mut Cx, message: core_pb::SocketOption) -> Option<SocketOption> {
    use core_pb::socket_option::{SocketState as State, Value};
    let core_pb::SocketOption { description: _, level, name, state, r#type, ip_version, value } = message;
    refuse!(cx; r#type, ip_version);
    let (Ok(level), Ok(name)) = (i32::try_from(level), i32::try_from(name)) else {
        cx.error("the level and the name must be 32-bit numbers");
        return None;
    };
    let value: Box<[u8]> = match cx.required("value", value)? {
        Value::IntValue(number) => match i32::try_from(number) {
            Ok(number) => number.to_ne_bytes().into(),
            Err(_) => {
                cx.error_at("int_value", "must be a 32-bit number");
                return None;
            }
        },
        Value::BufValue(bytes) => bytes.to_vec().into(),
    };
    let when = match cx.enumeration::<State>("state", state)? {
        State::StatePrebind => SocketState::Prebind,
        State::StateBound => SocketState::Bound,
        State::StateListening => SocketState::Listening,
    };
    Some(SocketOption { level, name, value, when })
}

/// Addresses that this machine does not have may be listened on.
fn freebind_option() -> SocketOption {
    const IPPROTO_IP: i32 = 0;
    const IP_FREEBIND: i32 = 15;
    let value = 1i32.to_ne_bytes().into();
    SocketOption { level: IPPROTO_IP, name: IP_FREEBIND, value, when: SocketState::Prebind }
}

fn inspector(
    cx: &mut Cx,
    name: &str,
    config_type: Option<listener_pb::listener_filter::ConfigType>,
) -> Option<Decoded> {
    use listener_pb::listener_filter::ConfigType;
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            cx.refuse("config_discovery");
            return None;
        }
        // As for HTTP filters, the well-known name alone is enough.
        None => return by_name(cx, name),
    };
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == TlsInspector::full_name() {
            cx.unpack::<TlsInspector>(&any).map(|inspector| tls_inspector(cx, inspector))
        } else if typed == HttpInspector::full_name() {
            cx.unpack::<HttpInspector>(&any).map(|HttpInspector {}| Decoded::Http)
        } else if typed == OriginalDst::full_name() {
            Some(Decoded::OriginalDst)
        } else if typed == proxy_pb::ProxyProtocol::full_name() {
            cx.unpack::<proxy_pb::ProxyProtocol>(&any).and_then(|proxy| proxy_protocol(cx, proxy))
        } else {
            cx.error(format!("the listener filter {typed} is not supported"));
            None
        }
    })
}

fn by_name(cx: &mut Cx, name: &str) -> Option<Decoded> {
    match name {
        "envoy.filters.listener.tls_inspector" => Some(Decoded::Tls),
        "envoy.filters.listener.http_inspector" => Some(Decoded::Http),
        "envoy.filters.listener.original_dst" => Some(Decoded::OriginalDst),
        "envoy.filters.listener.proxy_protocol" => Some(Decoded::Proxy(ProxyProtocol::default())),
        _ => {
            cx.error(format!("the listener filter {name:?} is not supported"));
            None
        }
    }
}

fn tls_inspector(cx: &mut Cx, message: TlsInspector) -> Decoded {
    let TlsInspector {
        enable_ja3_fingerprinting,
        enable_ja4_fingerprinting,
        initial_read_buffer_size,
        close_connection_on_client_hello_parsing_errors,
        max_client_hello_size,
    } = message;
    without_effect!(cx; enable_ja3_fingerprinting, enable_ja4_fingerprinting, initial_read_buffer_size,
        close_connection_on_client_hello_parsing_errors, max_client_hello_size);
    Decoded::Tls
}

fn proxy_protocol(cx: &mut Cx, message: proxy_pb::ProxyProtocol) -> Option<Decoded> {
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
    Some(Decoded::Proxy(ProxyProtocol {
        allow_requests_without: allow_requests_without_proxy_protocol,
        without_v1: without.contains(&Version::V1),
        without_v2: without.contains(&Version::V2),
        pass: passed(cx, pass_through_tlvs)?,
    }))
}
