//! Clusters: discovery, protocol, limits, transport.

use std::sync::Arc;
use std::time::Duration;

use cluster_pb::cluster as inner_pb;
use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use tulle_balance::Labels;
use tulle_config::Cluster;
use tulle_config::cluster::{Bind, ClusterSettings, TcpKeepAlive, TransportMatch, UpstreamTransport};
use tulle_config::egress::EgressGuard;
use tulle_core::Cidr;
use tulle_core::metadata::{Metadata, Value};
use tulle_core::recent::Recent;

use super::address;
use super::common::{labels, metadata, struct_to_map, uint};
use super::cx::{Cx, refuse, without_effect};
use super::discovery::discovery;
use super::health::health_check;
use super::lb::{Parts, lb_config};
use super::outlier::{circuit_breakers, outlier_detection};
use super::own::own;
use super::protocol::{Protocol, protocol};
use super::transport::transport;

/// Envoy's defaults.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BUFFER_LIMIT: u32 = 1 << 20;

thread_local! {
    static SETTINGS: Recent<ClusterSettings> = const { Recent::new() };
}

pub fn cluster(cx: &mut Cx, message: cluster_pb::Cluster) -> Option<Cluster> {
    let mut message = supported(cx, message);
    let name = cx.name("name", &message.name)?;
    let Protocol { protocol, limits, tls_name, policies } = protocol(cx, &mut message)?;
    let discovery = discovery(cx, &mut message);
    let transport = match message.transport_socket.take() {
        Some(socket) => cx.field("transport_socket", |cx| transport(cx, socket)),
        None => Some(UpstreamTransport::Plaintext),
    };
    let matches = std::mem::take(&mut message.transport_socket_matches);
    let transport_matches = cx.each("transport_socket_matches", matches, transport_match);
    let lb = lb_config(
        cx,
        Parts {
            policy: message.lb_policy,
            config: message.lb_config.take(),
            extension: message.load_balancing_policy.take(),
            common: message.common_lb_config.take(),
            subsets: message.lb_subset_config.take(),
        },
    );
    let health_checks = cx.each("health_checks", std::mem::take(&mut message.health_checks), health_check);
    let metadata = metadata(cx, message.metadata.take());
    let (mut own, own_policy) = own(cx, &metadata);
    let mut lb = lb?;
    if let Some(policy) = own_policy {
        lb.policy = policy;
    }
    let outlier = message.outlier_detection.take();
    let breakers = message.circuit_breakers.take().unwrap_or_default();
    let breakers = cx.field("circuit_breakers", |cx| circuit_breakers(cx, breakers));
    if breakers.default.max_retries == u32::MAX && breakers.default.retry_budget.is_none() {
        // Retries without a limit would multiply the load of a destination that fails: a budget is on by default.
        own.retry_rate.get_or_insert_default();
    }
    let settings = ClusterSettings {
        lb,
        connect_timeout: connect_timeout(cx, &message)?,
        protocol,
        limits,
        tls_name,
        circuit_breakers: breakers,
        outlier: outlier.map(|outlier| cx.field("outlier_detection", |cx| outlier_detection(cx, outlier))),
        health_checks,
        bind: bind(cx, message.upstream_bind_config.take())?,
        tcp_keepalive: keepalive(cx, message.upstream_connection_options.take()),
        buffer_limit: uint(message.per_connection_buffer_limit_bytes).unwrap_or(BUFFER_LIMIT),
        close_connections_on_host_health_failure: message.close_connections_on_host_health_failure,
        ignore_health_on_host_removal: message.ignore_health_on_host_removal,
        pool_per_client: message.connection_pool_per_downstream_connection,
        own: (!own.is_empty()).then(|| Box::new(own)),
    };
    Some(Cluster {
        stat_name: if message.alt_stat_name.is_empty() { name.clone() } else { cx.intern(&message.alt_stat_name) },
        name,
        discovery: discovery?,
        transport: transport?,
        transport_matches: transport_matches.into(),
        egress: egress(cx, &metadata),
        policies,
        metadata,
        settings: SETTINGS.with(|recent| recent.share(settings)),
    })
}

/// Reports every field that is set and has no place in [`Cluster`], and gives the message back.
#[rustfmt::skip]
fn supported(cx: &mut Cx, message: cluster_pb::Cluster) -> cluster_pb::Cluster {
    let cluster_pb::Cluster {
        // Decoded by the functions of this file and of protocol.rs.
        upstream_http_protocol_options: _,
        transport_socket_matches: _, name: _, alt_stat_name: _, eds_cluster_config: _, connect_timeout: _,
        per_connection_buffer_limit_bytes: _, lb_policy: _, load_assignment: _, health_checks: _,
        max_requests_per_connection: _, circuit_breakers: _, common_http_protocol_options: _,
        http_protocol_options: _, http2_protocol_options: _, typed_extension_protocol_options: _,
        dns_refresh_rate: _, dns_failure_refresh_rate: _, respect_dns_ttl: _, dns_lookup_family: _,
        outlier_detection: _, upstream_bind_config: _, lb_subset_config: _, common_lb_config: _,
        transport_socket: _, metadata: _, protocol_selection: _, upstream_connection_options: _,
        close_connections_on_host_health_failure: _, ignore_health_on_host_removal: _, load_balancing_policy: _,
        cluster_discovery_type: _, lb_config: _, typed_dns_resolver_config: _,
        connection_pool_per_downstream_connection: _,
        // Reported below.
        transport_socket_matcher, stats_matcher, per_connection_buffer_high_watermark_timeout,
        dns_jitter, dns_resolvers, use_tcp_for_dns_lookups, dns_resolution_config, wait_for_warm_on_init,
        cleanup_interval, filters, lrs_server, lrs_report_endpoint_metrics, track_timeout_budgets, upstream_config,
        track_cluster_stats, preconnect_policy, queuing_policies,
    } = &message;
    refuse!(cx; transport_socket_matcher, dns_resolvers, dns_resolution_config, filters, upstream_config,
        queuing_policies);
    without_effect!(cx; stats_matcher, per_connection_buffer_high_watermark_timeout, dns_jitter,
        use_tcp_for_dns_lookups, wait_for_warm_on_init, cleanup_interval, lrs_server, lrs_report_endpoint_metrics,
        track_timeout_budgets, track_cluster_stats, preconnect_policy);
    message
}

fn connect_timeout(cx: &mut Cx, message: &cluster_pb::Cluster) -> Option<Duration> {
    match message.connect_timeout {
        None => Some(CONNECT_TIMEOUT),
        some => {
            let timeout = cx.duration("connect_timeout", some)?;
            if timeout.is_zero() {
                cx.error_at("connect_timeout", "must be greater than 0");
            }
            Some(timeout)
        }
    }
}

/// Under this name, a cluster's metadata says that its hosts are outside the mesh, and which networks are granted.
const EGRESS: &str = "tulle.dev/egress";

fn egress(cx: &mut Cx, metadata: &Metadata) -> Option<Arc<EgressGuard>> {
    let said = metadata.filter(EGRESS)?;
    let listed = said.get("allow").and_then(Value::as_list).unwrap_or_default();
    let mut allowed = Vec::with_capacity(listed.len());
    for value in listed {
        let network = value.as_str().and_then(|text| {
            let (address, bits) = text.split_once('/')?;
            Cidr::new(address.parse().ok()?, bits.parse().ok()?)
        });
        match network {
            Some(network) => allowed.push(network),
            None => cx.error_at("metadata", format!("{EGRESS}: allow must be a list of networks")),
        }
    }
    Some(Arc::new(EgressGuard { allowed }))
}

fn transport_match(cx: &mut Cx, message: inner_pb::TransportSocketMatch) -> Option<TransportMatch> {
    let inner_pb::TransportSocketMatch { name, r#match, transport_socket } = message;
    let criteria = match r#match {
        Some(fields) => cx.field("match", |cx| labels(cx, &struct_to_map(fields))),
        None => Labels::default(),
    };
    let socket = cx.required("transport_socket", transport_socket)?;
    Some(TransportMatch {
        name: cx.name("name", &name)?,
        criteria,
        transport: cx.field("transport_socket", |cx| transport(cx, socket))?,
    })
}

/// `None` after an error.
fn bind(cx: &mut Cx, message: Option<core_pb::BindConfig>) -> Option<Option<Bind>> {
    let Some(message) = message else { return Some(None) };
    let core_pb::BindConfig {
        source_address,
        freebind,
        socket_options,
        extra_source_addresses,
        additional_source_addresses,
        local_address_selector,
        validate_network_namespaces,
    } = message;
    cx.field("upstream_bind_config", |cx| {
        refuse!(cx; freebind, socket_options, extra_source_addresses, additional_source_addresses,
            local_address_selector);
        // They always are.
        let _ = validate_network_namespaces;
        let Some(message) = source_address else { return Some(None) };
        cx.field("source_address", |cx| address::source(cx, message)).map(Some)
    })
}

fn keepalive(cx: &mut Cx, message: Option<cluster_pb::UpstreamConnectionOptions>) -> Option<TcpKeepAlive> {
    let cluster_pb::UpstreamConnectionOptions {
        tcp_keepalive,
        set_local_interface_name_on_upstream_connections,
        happy_eyeballs_config,
    } = message?;
    cx.field("upstream_connection_options", |cx| {
        without_effect!(cx; set_local_interface_name_on_upstream_connections, happy_eyeballs_config);
    });
    let core_pb::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval } = tcp_keepalive?;
    let seconds = |value: Option<u32>| value.map(|seconds| Duration::from_secs(u64::from(seconds)));
    Some(TcpKeepAlive {
        probes: uint(keepalive_probes),
        time: seconds(uint(keepalive_time)),
        interval: seconds(uint(keepalive_interval)),
    })
}
