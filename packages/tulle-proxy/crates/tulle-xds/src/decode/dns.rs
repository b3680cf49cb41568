//! Clusters whose endpoints are names, and how names are looked up.

use std::sync::Arc;
use std::time::Duration;

use cluster_pb::cluster as inner_pb;
use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as Family;
use envoy_types::pb::envoy::extensions::clusters::dns::v3 as dns_pb;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig as Cares;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::protobuf::Duration as Span;
use prost::Name as _;
use tulle_balance::EndpointSet;
use tulle_config::Discovery;
use tulle_config::cluster::{DnsDiscovery, DnsEndpoint, DnsFamily};
use tulle_core::Address;

use super::address::Names;
use super::cluster::static_endpoints;
use super::cx::{Cx, refuse, type_name, without_effect};

/// Envoy's default.
const REFRESH: Duration = Duration::from_secs(5);

/// By the cluster's own fields.
pub fn dns(
    cx: &mut Cx,
    message: &cluster_pb::Cluster,
    endpoints: Option<ClusterLoadAssignment>,
) -> Option<DnsDiscovery> {
    use inner_pb::DnsLookupFamily as Family;
    let set = static_endpoints(cx, endpoints, Names::Resolved)?;
    let failure = message.dns_failure_refresh_rate.map(|rate| (rate.base_interval, rate.max_interval));
    let family = match cx.enumeration::<Family>("dns_lookup_family", message.dns_lookup_family)? {
        Family::Auto => DnsFamily::Auto,
        Family::V4Only => DnsFamily::V4Only,
        Family::V6Only => DnsFamily::V6Only,
        Family::V4Preferred => DnsFamily::V4Preferred,
        Family::All => DnsFamily::All,
    };
    Some(DnsDiscovery {
        endpoints: dns_endpoints(cx, &set),
        family,
        refresh: refresh(cx, message.dns_refresh_rate),
        failure_refresh: failure_refresh(cx, failure),
        respect_ttl: message.respect_dns_ttl,
    })
}

fn refresh(cx: &mut Cx, rate: Option<Span>) -> Duration {
    let refresh = cx.duration("dns_refresh_rate", rate).unwrap_or(REFRESH);
    if refresh < Duration::from_millis(1) {
        cx.error_at("dns_refresh_rate", "must be at least 1 ms");
    }
    refresh
}

fn failure_refresh(cx: &mut Cx, rate: Option<(Option<Span>, Option<Span>)>) -> Option<(Duration, Duration)> {
    let (base, max) = rate?;
    cx.field("dns_failure_refresh_rate", |cx| {
        let base = cx.duration("base_interval", base)?;
        Some((base, cx.duration("max_interval", max).unwrap_or(base * 10)))
    })
}

/// The name of which every address is used in turn, one for each connection.
pub fn logical(cx: &mut Cx, dns: DnsDiscovery) -> Option<Discovery> {
    if dns.endpoints.len() != 1 {
        cx.error_at("load_assignment", "a LOGICAL_DNS cluster has exactly one endpoint");
    }
    Some(Discovery::LogicalDns(Arc::new(dns)))
}

/// By a message of its own, which has the same fields and stands for both types.
pub fn dns_cluster(cx: &mut Cx, any: &Any, endpoints: Option<ClusterLoadAssignment>) -> Option<Discovery> {
    let set = static_endpoints(cx, endpoints, Names::Resolved)?;
    let endpoints = dns_endpoints(cx, &set);
    let (dns, one) = cx.field("cluster_type.typed_config", |cx| {
        let dns_pb::DnsCluster {
            dns_refresh_rate,
            dns_failure_refresh_rate,
            respect_dns_ttl,
            dns_jitter,
            typed_dns_resolver_config,
            dns_lookup_family,
            all_addresses_in_single_endpoint,
            dns_min_refresh_rate,
        } = cx.unpack(any)?;
        without_effect!(cx; dns_jitter, dns_min_refresh_rate);
        resolver(cx, None, typed_dns_resolver_config.as_ref());
        let family = match cx.enumeration::<Family>("dns_lookup_family", dns_lookup_family)? {
            Family::Unspecified | Family::Auto => DnsFamily::Auto,
            Family::V4Only => DnsFamily::V4Only,
            Family::V6Only => DnsFamily::V6Only,
            Family::V4Preferred => DnsFamily::V4Preferred,
            Family::All => DnsFamily::All,
        };
        let failure = dns_failure_refresh_rate.map(|rate| (rate.base_interval, rate.max_interval));
        let refresh = refresh(cx, dns_refresh_rate);
        let failure_refresh = failure_refresh(cx, failure);
        let dns = DnsDiscovery { endpoints, family, refresh, failure_refresh, respect_ttl: respect_dns_ttl };
        Some((dns, all_addresses_in_single_endpoint))
    })?;
    if one { logical(cx, dns) } else { Some(Discovery::StrictDns(Arc::new(dns))) }
}

/// Names are looked up by the system's resolver: servers of one's own are refused, other settings have no effect.
pub fn resolver(
    cx: &mut Cx,
    old: Option<&core_pb::DnsResolutionConfig>,
    typed: Option<&core_pb::TypedExtensionConfig>,
) {
    const NO_SERVERS: &str = "are not supported: names are looked up by the system's resolver";
    if let Some(core_pb::DnsResolutionConfig { resolvers, dns_resolver_options: _ }) = old {
        cx.ignore("dns_resolution_config");
        if !resolvers.is_empty() {
            cx.error_at("dns_resolution_config.resolvers", NO_SERVERS);
        }
    }
    if let Some(core_pb::TypedExtensionConfig { name: _, typed_config }) = typed {
        cx.ignore("typed_dns_resolver_config");
        let cares = typed_config.as_ref().filter(|any| type_name(&any.type_url) == Cares::full_name());
        cx.field("typed_dns_resolver_config.typed_config", |cx| {
            let cares = cares.and_then(|any| cx.unpack::<Cares>(any));
            if cares.is_some_and(|cares| !cares.resolvers.is_empty()) {
                cx.error_at("resolvers", NO_SERVERS);
            }
        });
    }
}

fn dns_endpoints(cx: &mut Cx, set: &EndpointSet) -> Vec<DnsEndpoint> {
    let groups = set.localities.iter();
    let pairs = groups.flat_map(|group| group.endpoints.iter().map(move |endpoint| (group, endpoint)));
    pairs
        .map(|(group, endpoint)| DnsEndpoint {
            address: endpoint.address.clone(),
            hostname: match (&endpoint.hostname, &endpoint.address) {
                (Some(name), _) => name.clone(),
                (None, Address::Name { host, .. }) => host.clone(),
                (None, Address::Ip(socket)) => cx.intern(&socket.ip().to_string()),
                (None, other) => cx.intern(&other.to_string()),
            },
            weight: endpoint.weight,
            priority: group.priority,
            locality: group.locality.clone(),
            locality_weight: group.weight,
            metadata: endpoint.metadata.clone(),
        })
        .collect()
}

/// Names are looked up by the system; what would change how is refused.
pub fn dns_cache(cx: &mut Cx, message: DnsCacheConfig) {
    let DnsCacheConfig {
        name,
        dns_lookup_family: _,
        dns_refresh_rate,
        dns_min_refresh_rate,
        host_ttl,
        max_hosts,
        disable_dns_refresh_on_failure,
        dns_failure_refresh_rate,
        dns_cache_circuit_breaker,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        preresolve_hostnames,
        dns_query_timeout,
        key_value_config,
        resolved_address_filter,
    } = message;
    let _named = cx.name("name", &name);
    refuse!(cx; key_value_config, resolved_address_filter);
    resolver(cx, dns_resolution_config.as_ref(), typed_dns_resolver_config.as_ref());
    without_effect!(cx; use_tcp_for_dns_lookups, dns_refresh_rate, dns_min_refresh_rate, host_ttl, max_hosts, disable_dns_refresh_on_failure,
        dns_failure_refresh_rate, dns_cache_circuit_breaker, preresolve_hostnames, dns_query_timeout);
}
