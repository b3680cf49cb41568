//! Where a cluster's endpoints come from: its type, by enum or by name.

use std::sync::Arc;
use std::time::Duration;

use cluster_pb::cluster as inner_pb;
use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::extensions::clusters as kinds_pb;
use envoy_types::pb::envoy::extensions::network::dns_resolver as resolver_pb;
use envoy_types::pb::google::protobuf::{Any, Duration as Span, UInt32Value};
use kinds_pb::aggregate::v3::ClusterConfig as Aggregate;
use kinds_pb::composite::v3::ClusterConfig as Composite;
use kinds_pb::dns::v3::DnsCluster;
use kinds_pb::dynamic_forward_proxy::v3::ClusterConfig as DynamicCluster;
use kinds_pb::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier as Specifier;
use kinds_pb::original_dst::v3::OriginalDstCluster;
use prost::Name as _;
use resolver_pb::cares::v3::CaresDnsResolverConfig;
use resolver_pb::getaddrinfo::v3::GetAddrInfoDnsResolverConfig;
use tulle_balance::EndpointSet;
use tulle_config::Discovery;
use tulle_config::cluster::{DnsDiscovery, DnsEndpoint, DnsFamily, OriginalDst};
use tulle_core::{Address, Str};

use super::address::Names;
use super::cx::{Cx, refuse, type_name, without_effect};
use super::dns_cache::dns_cache;
use super::endpoint::assignment;
use super::source::source;

/// Envoy's defaults.
const DNS_REFRESH: Duration = Duration::from_secs(5);
const ORIGINAL_DST_HEADER: &str = "x-envoy-original-dst-host";

pub fn discovery(cx: &mut Cx, message: &mut cluster_pb::Cluster) -> Option<Discovery> {
    use inner_pb::{ClusterDiscoveryType, DiscoveryType};
    let resolver = message.typed_dns_resolver_config.take();
    cx.field("typed_dns_resolver_config", |cx| resolver_config(cx, resolver));
    let kind = match message.cluster_discovery_type.take() {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => cx.enumeration::<DiscoveryType>("type", kind)?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return cx.field("cluster_type", |cx| custom_type(cx, custom, message));
        }
    };
    let endpoints = message.load_assignment.take();
    if matches!(kind, DiscoveryType::Eds | DiscoveryType::OriginalDst) {
        without_endpoints(cx, endpoints.as_ref());
    }
    match kind {
        DiscoveryType::Static => static_endpoints(cx, endpoints, Names::Refused).map(Arc::new).map(Discovery::Static),
        DiscoveryType::StrictDns => {
            let lookups = by_cluster(cx, message)?;
            dns(cx, lookups, endpoints).map(|dns| Discovery::StrictDns(Arc::new(dns)))
        }
        DiscoveryType::LogicalDns => {
            let lookups = by_cluster(cx, message)?;
            logical(cx, lookups, endpoints)
        }
        DiscoveryType::Eds => {
            let config = cx.required("eds_cluster_config", message.eds_cluster_config.take())?;
            let name = if config.service_name.is_empty() { &message.name } else { &config.service_name };
            let from = cx.field("eds_cluster_config", |cx| source(cx, "eds_config", config.eds_config, name));
            from.map(|(key, source)| Discovery::Eds(key, source))
        }
        DiscoveryType::OriginalDst => Some(Discovery::OriginalDst(original_dst_settings(cx, message)?)),
    }
}

fn without_endpoints(cx: &mut Cx, endpoints: Option<&ClusterLoadAssignment>) {
    if endpoints.is_some() {
        cx.error_at("load_assignment", "has no place in a cluster of this type");
    }
}

/// The types that are known by their message.
fn custom_type(
    cx: &mut Cx,
    message: inner_pb::CustomClusterType,
    cluster: &mut cluster_pb::Cluster,
) -> Option<Discovery> {
    let inner_pb::CustomClusterType { name, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    let typed = type_name(&any.type_url);
    let endpoints = cluster.load_assignment.take();
    if typed == DnsCluster::full_name() {
        return cx.field("typed_config", |cx| dns_cluster(cx, &any, endpoints));
    }
    without_endpoints(cx, endpoints.as_ref());
    cx.field("typed_config", |cx| {
        if typed == DynamicCluster::full_name() {
            dynamic(cx, &any)
        } else if typed == Aggregate::full_name() {
            let Aggregate { clusters } = cx.unpack::<Aggregate>(&any)?;
            members(cx, clusters).map(Discovery::Aggregate)
        } else if typed == Composite::full_name() {
            let Composite { clusters } = cx.unpack::<Composite>(&any)?;
            members(cx, clusters.into_iter().map(|entry| entry.name).collect()).map(Discovery::Composite)
        } else if typed == OriginalDstCluster::full_name() {
            let OriginalDstCluster { use_http_header, http_header_name, upstream_port_override, metadata_key } =
                cx.unpack::<OriginalDstCluster>(&any)?;
            refuse!(cx; metadata_key);
            original_dst(cx, (use_http_header, http_header_name), upstream_port_override).map(Discovery::OriginalDst)
        } else {
            cx.error(format!("{name:?} is not supported"));
            None
        }
    })
}

/// The clusters that another one is made of.
fn members(cx: &mut Cx, names: Vec<String>) -> Option<Box<[Str]>> {
    if names.is_empty() {
        cx.error_at("clusters", "must not be empty");
        return None;
    }
    Some(cx.each("clusters", names, |cx, name| cx.name("name", &name)).into())
}

fn original_dst_settings(cx: &mut Cx, message: &mut cluster_pb::Cluster) -> Option<Box<OriginalDst>> {
    let Some(inner_pb::LbConfig::OriginalDstLbConfig(settings)) = message.lb_config.take() else {
        return Some(Box::default());
    };
    let inner_pb::OriginalDstLbConfig { use_http_header, http_header_name, upstream_port_override, metadata_key } =
        settings;
    cx.field("original_dst_lb_config", |cx| {
        refuse!(cx; metadata_key);
        original_dst(cx, (use_http_header, http_header_name), upstream_port_override)
    })
}

fn original_dst(cx: &mut Cx, (by_header, name): (bool, String), port: Option<UInt32Value>) -> Option<Box<OriginalDst>> {
    let name = if name.is_empty() { ORIGINAL_DST_HEADER } else { &name.to_ascii_lowercase() };
    let header = by_header.then(|| cx.intern(name));
    let port = match port.map(|port| u16::try_from(port.value)) {
        None => None,
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => {
            cx.error_at("upstream_port_override", "must be at most 65535");
            return None;
        }
    };
    Some(Box::new(OriginalDst { header, port }))
}

fn dynamic(cx: &mut Cx, any: &Any) -> Option<Discovery> {
    let DynamicCluster {
        allow_insecure_cluster_options,
        allow_coalesced_connections,
        cluster_implementation_specifier,
    } = cx.unpack::<DynamicCluster>(any)?;
    without_effect!(cx; allow_insecure_cluster_options);
    refuse!(cx; allow_coalesced_connections);
    match cluster_implementation_specifier {
        Some(Specifier::DnsCacheConfig(cache)) => cx.field("dns_cache_config", |cx| dns_cache(cx, cache)),
        Some(Specifier::SubClustersConfig(_)) => cx.refuse("sub_clusters_config"),
        None => cx.error_at("dns_cache_config", "is required"),
    }
    Some(Discovery::Dynamic)
}

/// Names are looked up by the system, whichever of its resolvers is asked for; servers of one's own are not asked.
pub fn resolver_config(cx: &mut Cx, message: Option<TypedExtensionConfig>) {
    let Some(TypedExtensionConfig { name, typed_config }) = message else { return };
    let Some(any) = cx.required("typed_config", typed_config) else { return };
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == GetAddrInfoDnsResolverConfig::full_name() {
            let Some(message) = cx.unpack::<GetAddrInfoDnsResolverConfig>(&any) else { return };
            let GetAddrInfoDnsResolverConfig { num_retries, num_resolver_threads } = message;
            without_effect!(cx; num_retries, num_resolver_threads);
        } else if typed == CaresDnsResolverConfig::full_name() {
            if let Some(message) = cx.unpack::<CaresDnsResolverConfig>(&any) {
                cares(cx, message);
            }
        } else {
            cx.error(format!("the resolver {name:?} is not supported"));
        }
    });
}

fn cares(cx: &mut Cx, message: CaresDnsResolverConfig) {
    let CaresDnsResolverConfig {
        resolvers,
        use_resolvers_as_fallback,
        filter_unroutable_families,
        dns_resolver_options,
        udp_max_queries,
        query_timeout_seconds,
        query_tries,
        rotate_nameservers,
        edns0_max_payload_size,
        max_udp_channel_duration,
        reinit_channel_on_timeout,
        qcache_max_ttl,
    } = message;
    if !use_resolvers_as_fallback {
        refuse!(cx; resolvers);
    }
    without_effect!(cx; use_resolvers_as_fallback, filter_unroutable_families, dns_resolver_options, udp_max_queries,
        query_timeout_seconds, query_tries, rotate_nameservers, edns0_max_payload_size, max_udp_channel_duration,
        reinit_channel_on_timeout, qcache_max_ttl);
}

fn static_endpoints(cx: &mut Cx, message: Option<ClusterLoadAssignment>, names: Names) -> Option<EndpointSet> {
    match message {
        Some(message) => cx.field("load_assignment", |cx| assignment(cx, message, names)),
        None => Some(EndpointSet::default()),
    }
}

/// How names are looked up.
struct Lookups {
    family: DnsFamily,
    refresh: Duration,
    failure_refresh: Option<(Duration, Duration)>,
    respect_ttl: bool,
}

/// By the fields of the cluster itself.
fn by_cluster(cx: &mut Cx, message: &cluster_pb::Cluster) -> Option<Lookups> {
    use inner_pb::DnsLookupFamily as Family;
    let failure =
        message.dns_failure_refresh_rate.and_then(|rate| failure_rate(cx, rate.base_interval, rate.max_interval));
    Some(Lookups {
        family: match cx.enumeration::<Family>("dns_lookup_family", message.dns_lookup_family)? {
            Family::Auto => DnsFamily::Auto,
            Family::V4Only => DnsFamily::V4Only,
            Family::V6Only => DnsFamily::V6Only,
            Family::V4Preferred => DnsFamily::V4Preferred,
            Family::All => DnsFamily::All,
        },
        refresh: refresh_rate(cx, message.dns_refresh_rate),
        failure_refresh: failure,
        respect_ttl: message.respect_dns_ttl,
    })
}

fn refresh_rate(cx: &mut Cx, rate: Option<Span>) -> Duration {
    let refresh = cx.duration("dns_refresh_rate", rate).unwrap_or(DNS_REFRESH);
    if refresh < Duration::from_millis(1) {
        cx.error_at("dns_refresh_rate", "must be at least 1 ms");
    }
    refresh
}

fn failure_rate(cx: &mut Cx, base: Option<Span>, max: Option<Span>) -> Option<(Duration, Duration)> {
    cx.field("dns_failure_refresh_rate", |cx| {
        let base = cx.duration("base_interval", base)?;
        Some((base, cx.duration("max_interval", max).unwrap_or(base * 10)))
    })
}

/// The type by name for both kinds of names.
fn dns_cluster(cx: &mut Cx, any: &Any, endpoints: Option<ClusterLoadAssignment>) -> Option<Discovery> {
    use kinds_pb::common::dns::v3::DnsLookupFamily as Family;
    let DnsCluster {
        dns_refresh_rate,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_jitter,
        typed_dns_resolver_config,
        dns_lookup_family,
        all_addresses_in_single_endpoint,
        dns_min_refresh_rate,
    } = cx.unpack::<DnsCluster>(any)?;
    without_effect!(cx; dns_jitter, dns_min_refresh_rate);
    cx.field("typed_dns_resolver_config", |cx| resolver_config(cx, typed_dns_resolver_config));
    let failure = dns_failure_refresh_rate.and_then(|rate| failure_rate(cx, rate.base_interval, rate.max_interval));
    let lookups = Lookups {
        family: match cx.enumeration::<Family>("dns_lookup_family", dns_lookup_family)? {
            Family::Unspecified | Family::Auto => DnsFamily::Auto,
            Family::V4Only => DnsFamily::V4Only,
            Family::V6Only => DnsFamily::V6Only,
            Family::V4Preferred => DnsFamily::V4Preferred,
            Family::All => DnsFamily::All,
        },
        refresh: refresh_rate(cx, dns_refresh_rate),
        failure_refresh: failure,
        respect_ttl: respect_dns_ttl,
    };
    if all_addresses_in_single_endpoint {
        logical(cx, lookups, endpoints)
    } else {
        dns(cx, lookups, endpoints).map(|dns| Discovery::StrictDns(Arc::new(dns)))
    }
}

fn logical(cx: &mut Cx, lookups: Lookups, endpoints: Option<ClusterLoadAssignment>) -> Option<Discovery> {
    let dns = dns(cx, lookups, endpoints)?;
    if dns.endpoints.len() != 1 {
        cx.error_at("load_assignment", "a LOGICAL_DNS cluster has exactly one endpoint");
    }
    Some(Discovery::LogicalDns(Arc::new(dns)))
}

fn dns(cx: &mut Cx, lookups: Lookups, endpoints: Option<ClusterLoadAssignment>) -> Option<DnsDiscovery> {
    let set = static_endpoints(cx, endpoints, Names::Resolved)?;
    let Lookups { family, refresh, failure_refresh, respect_ttl } = lookups;
    let endpoints = dns_endpoints(cx, &set);
    let policy = EndpointSet { localities: Box::default(), ..set };
    Some(DnsDiscovery { endpoints, policy, family, refresh, failure_refresh, respect_ttl })
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
            health: endpoint.health,
            priority: group.priority,
            locality: group.locality.clone(),
            locality_weight: group.weight,
            metadata: endpoint.metadata.clone(),
        })
        .collect()
}
