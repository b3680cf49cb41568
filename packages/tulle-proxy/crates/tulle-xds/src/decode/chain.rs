//! Filter chains: their match, their transport socket and their network filter.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::listener::v3 as listener_pb;
use envoy_types::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit as LimitMessage;
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as NetworkExtAuthz;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_types::pb::envoy::extensions::filters::network::sni_cluster::v3::SniCluster;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::FilterConfig as SniForward;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::filter_config::PortSpecifier as SniPort;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;
use tulle_config::listener::{ChainMatch, SourceMatch, SourceType, TransportProtocol};
use tulle_config::{ConnectionCheck, DownstreamTls, FilterChain, NetworkFilter};
use tulle_policy::gate::ConnectionLimit;

use super::address::{cidr, lower_case};
use super::common::{metadata, uint};
use super::connection_limit::connection_limit;
use super::cx::{Cx, refuse, type_name};
use super::dns_cache::dns_cache;
use super::filters::{connection_authorizer, network_rbac};
use super::hcm::hcm;
use super::tcp_proxy::tcp_proxy;
use super::tls::downstream;

pub fn filter_chain(cx: &mut Cx, message: listener_pb::FilterChain) -> Option<FilterChain> {
    let listener_pb::FilterChain {
        filter_chain_match,
        filters,
        use_proxy_proto,
        metadata: about,
        transport_socket,
        transport_socket_connect_timeout,
        name,
    } = message;
    // The listener has asked the first chain, which speaks for all of them.
    let _ = use_proxy_proto;
    let matches = cx.field("filter_chain_match", |cx| chain_match(cx, filter_chain_match.unwrap_or_default()));
    let tls = match transport_socket {
        Some(socket) => cx.field("transport_socket", |cx| transport(cx, socket)),
        None => Some(None),
    };
    let filters = network_filters(cx, filters);
    let Filters { limits, access, filter } = filters?;
    Some(FilterChain {
        name: cx.intern(&name),
        matches: matches?,
        tls: tls?,
        transport_connect_timeout: cx.limit("transport_socket_connect_timeout", transport_socket_connect_timeout, None),
        limits: limits.into(),
        access: access.into(),
        filter,
        metadata: metadata(cx, about),
    })
}

fn chain_match(cx: &mut Cx, message: listener_pb::FilterChainMatch) -> Option<ChainMatch> {
    use listener_pb::filter_chain_match::ConnectionSourceType;
    let listener_pb::FilterChainMatch {
        destination_port,
        prefix_ranges,
        address_suffix,
        suffix_len,
        direct_source_prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
        server_names,
        transport_protocol,
        application_protocols,
    } = message;
    refuse!(cx; address_suffix, suffix_len);
    for name in &server_names {
        if name.strip_prefix("*.").unwrap_or(name).contains('*') {
            cx.error_at("server_names", format!("{name:?}: a wildcard may only be the first label"));
        }
    }
    Some(ChainMatch {
        destination_port: match uint(destination_port) {
            Some(number) => Some(port(cx, number)?),
            None => None,
        },
        destination_ranges: cx.each("prefix_ranges", prefix_ranges, cidr),
        server_names: lower_case(cx, server_names),
        transport_protocol: match transport_protocol.as_str() {
            "" => None,
            "tls" => Some(TransportProtocol::Tls),
            "raw_buffer" => Some(TransportProtocol::RawBuffer),
            other => {
                cx.error_at("transport_protocol", format!("{other:?} is not supported"));
                None
            }
        },
        application_protocols: application_protocols.iter().map(|name| cx.intern(name)).collect(),
        source: SourceMatch {
            kind: match cx.enumeration::<ConnectionSourceType>("source_type", source_type)? {
                ConnectionSourceType::Any => SourceType::Any,
                ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
                ConnectionSourceType::External => SourceType::External,
            },
            ranges: cx.each("source_prefix_ranges", source_prefix_ranges, cidr),
            ports: cx.each("source_ports", source_ports, port),
            direct_ranges: cx.each("direct_source_prefix_ranges", direct_source_prefix_ranges, cidr),
        },
    })
}

fn port(cx: &mut Cx, value: u32) -> Option<u16> {
    let valid = u16::try_from(value).ok().filter(|port| *port != 0);
    if valid.is_none() {
        cx.error(format!("{value} is not a port"));
    }
    valid
}

/// `None` after an error; `Some(None)` is plaintext.
fn transport(cx: &mut Cx, message: core_pb::TransportSocket) -> Option<Option<Arc<DownstreamTls>>> {
    use core_pb::transport_socket::ConfigType;
    let core_pb::TransportSocket { name, config_type } = message;
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        if name == "envoy.transport_sockets.raw_buffer" {
            return Some(None);
        }
        cx.error_at("typed_config", "is required");
        return None;
    };
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == RawBuffer::full_name() {
            Some(None)
        } else if typed == DownstreamTlsContext::full_name() {
            let context = cx.unpack::<DownstreamTlsContext>(&any)?;
            downstream(cx, context).map(|tls| Some(Arc::new(tls)))
        } else {
            cx.error(format!("the transport socket {typed} is not supported for listeners"));
            None
        }
    })
}

/// A chain's network filters.
struct Filters {
    limits: Vec<ConnectionLimit>,
    access: Vec<ConnectionCheck>,
    filter: NetworkFilter,
}

/// Limits, access rules and what names the host, if any, and then the filter that speaks the protocol.
fn network_filters(cx: &mut Cx, mut filters: Vec<listener_pb::Filter>) -> Option<Filters> {
    let Some(last) = filters.pop() else {
        cx.error_at("filters", "is required");
        return None;
    };
    let before = filters.len();
    let first = cx.each("filters", filters, first_filter);
    let filter = cx.field(&format!("filters[{before}]"), |cx| network_filter(cx, last));
    let mut filter = filter?;
    if first.len() != before {
        return None;
    }
    let (mut limits, mut access) = (Vec::new(), Vec::new());
    for (index, each) in first.into_iter().enumerate() {
        match (each, &mut filter) {
            (First::Check(check), _) => access.push(check),
            (First::Limit(limit), _) => limits.extend(limit),
            (First::SniPort(port), NetworkFilter::Tcp(proxy)) => Arc::make_mut(proxy).sni_port = Some(port),
            (First::SniCluster, NetworkFilter::Tcp(proxy)) => Arc::make_mut(proxy).sni_cluster = true,
            (First::SniPort(_) | First::SniCluster, NetworkFilter::Http(_)) => {
                cx.error_at(&format!("filters[{index}]"), "goes with the TCP proxy only");
                return None;
            }
        }
    }
    Some(Filters { limits, access, filter })
}

/// What may stand before the last filter.
enum First {
    Check(ConnectionCheck),
    /// `None`: switched off.
    Limit(Option<ConnectionLimit>),
    /// The host is the one that the client's server name says.
    SniPort(u16),
    /// The cluster is the one that the client's server name says.
    SniCluster,
}

fn first_filter(cx: &mut Cx, message: listener_pb::Filter) -> Option<First> {
    let any = typed_config(cx, message)?;
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == NetworkRbac::full_name() {
            let message = cx.unpack::<NetworkRbac>(&any)?;
            network_rbac(cx, message).map(|rbac| First::Check(ConnectionCheck::Rules(Arc::new(rbac))))
        } else if typed == NetworkExtAuthz::full_name() {
            let message = cx.unpack::<NetworkExtAuthz>(&any)?;
            let authorizer = connection_authorizer(cx, message)?;
            Some(First::Check(ConnectionCheck::Authorizer(Arc::new(authorizer))))
        } else if typed == LimitMessage::full_name() {
            let message = cx.unpack::<LimitMessage>(&any)?;
            connection_limit(cx, message).map(First::Limit)
        } else if typed == SniCluster::full_name() {
            cx.unpack::<SniCluster>(&any).map(|SniCluster {}| First::SniCluster)
        } else if typed == SniForward::full_name() {
            let SniForward { dns_cache_config, save_upstream_address: _, port_specifier } =
                cx.unpack::<SniForward>(&any)?;
            let cache = cx.required("dns_cache_config", dns_cache_config)?;
            cx.field("dns_cache_config", |cx| dns_cache(cx, cache));
            match port_specifier {
                Some(SniPort::PortValue(number)) => cx.field("port_value", |cx| port(cx, number)).map(First::SniPort),
                None => Some(First::SniPort(443)),
            }
        } else {
            cx.error(format!("the network filter {typed} is not supported here"));
            None
        }
    })
}

fn network_filter(cx: &mut Cx, message: listener_pb::Filter) -> Option<NetworkFilter> {
    let any = typed_config(cx, message)?;
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == HttpConnectionManager::full_name() {
            let message = cx.unpack::<HttpConnectionManager>(&any)?;
            hcm(cx, message).map(|hcm| NetworkFilter::Http(Arc::new(hcm)))
        } else if typed == TcpProxy::full_name() {
            let message = cx.unpack::<TcpProxy>(&any)?;
            tcp_proxy(cx, message).map(|proxy| NetworkFilter::Tcp(Arc::new(proxy)))
        } else {
            cx.error(format!("the network filter {typed} is not supported"));
            None
        }
    })
}

fn typed_config(cx: &mut Cx, message: listener_pb::Filter) -> Option<Any> {
    use listener_pb::filter::ConfigType;
    let listener_pb::Filter { name, config_type } = message;
    match config_type {
        Some(ConfigType::TypedConfig(any)) => Some(any),
        Some(ConfigType::ConfigDiscovery(_)) => {
            cx.refuse("config_discovery");
            None
        }
        None => {
            cx.error_at("typed_config", format!("is required for {name:?}"));
            None
        }
    }
}
