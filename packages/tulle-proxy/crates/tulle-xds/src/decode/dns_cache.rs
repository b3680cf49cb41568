//! The DNS cache of dynamic forward proxies.

use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;

use super::cx::{Cx, refuse, without_effect};
use super::discovery::resolver_config;

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
    cx.field("typed_dns_resolver_config", |cx| resolver_config(cx, typed_dns_resolver_config));
    refuse!(cx; dns_resolution_config, key_value_config,
        resolved_address_filter);
    without_effect!(cx; use_tcp_for_dns_lookups, dns_refresh_rate, dns_min_refresh_rate, host_ttl, max_hosts, disable_dns_refresh_on_failure,
        dns_failure_refresh_rate, dns_cache_circuit_breaker, preresolve_hostnames, dns_query_timeout);
}
