//! Balancing, retries, rate limits and Tulle's own extensions, decoded or refused with the path of what is wrong.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use tulle_balance::{LbPolicy, LocalityMode, Selection, SubsetFallback};
use tulle_config::own::Fallback;
use tulle_policy::descriptors::HostSlots;
use tulle_route::RouteAction;
use tulle_xds::decode::{Finding, Kind, Resource, resource};
use tulle_xds::json::{Messages, pack};

fn cluster(yaml: &str) -> Result<std::sync::Arc<tulle_config::Cluster>, Vec<String>> {
    let text = format!("name: c\ntype: STATIC\n{yaml}");
    let any = pack(&Messages::load().parse::<Cluster>(&text).unwrap());
    match resource(Kind::Cluster, &any) {
        Ok((Resource::Cluster(cluster), _)) => Ok(cluster),
        Ok(other) => panic!("{other:?}"),
        Err(findings) => Err(findings.iter().map(Finding::to_string).collect()),
    }
}

fn forward(route: &str) -> Result<tulle_route::Forward, Vec<String>> {
    let text = format!(
        "name: r\nvirtual_hosts: [{{name: h, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {route}}}]}}]"
    );
    let any = pack(&Messages::load().parse::<RouteConfiguration>(&text).unwrap());
    match resource(Kind::Route, &any) {
        Ok((Resource::Route(config), _)) => match &config.hosts[0].routes[0].action {
            RouteAction::Forward(forward) => Ok((**forward).clone()),
            other => panic!("{other:?}"),
        },
        Ok(other) => panic!("{other:?}"),
        Err(findings) => Err(findings.iter().map(Finding::to_string).collect()),
    }
}

const BY_TYPE: &str = "load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.";

#[test]
fn balancing_by_field_and_by_type() {
    let zones =
        cluster("common_lb_config: {zone_aware_lb_config: {min_cluster_size: 3, routing_enabled: {value: 25}}}");
    let LocalityMode::ZoneAware(zones) = zones.unwrap().lb.locality else { panic!() };
    assert_eq!((zones.min_cluster_size, zones.routing.per_million()), (3, 250_000));
    let scan =
        cluster(&format!("{BY_TYPE}least_request.v3.LeastRequest, selection_method: FULL_SCAN}}}}}}]}}")).unwrap();
    assert!(matches!(scan.lb.policy, LbPolicy::LeastRequest { selection: Selection::FullScan, .. }));
    let named = format!(
        "{BY_TYPE}override_host.v3.OverrideHost, override_host_sources: [{{header: X-To}}], fallback_policy: {{policies: \
         [{{typed_extension_config: {{name: r, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}}}}}]}}}}}}}}]}}"
    );
    let named = cluster(&named).unwrap();
    assert_eq!((&*named.lb.override_headers[0], &named.lb.policy), ("x-to", &LbPolicy::Random));
    let bounded = "lb_policy: MAGLEV\ncommon_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 150, \
                   use_hostname_for_hashing: true}}";
    let bounded = cluster(bounded).unwrap();
    assert!(matches!(bounded.lb.policy, LbPolicy::Maglev { use_hostname: true, .. }));
    assert_eq!(bounded.lb.hash_balance_factor, Some(150));
    let subsets = "lb_subset_config: {subset_selectors: [{keys: [b, a], fallback_policy: KEYS_SUBSET, \
                   fallback_keys_subset: [a]}]}";
    let subsets = cluster(subsets).unwrap().lb.subsets.clone().unwrap();
    assert_eq!(subsets.selectors[0].fallback, Some(SubsetFallback::Keys(["a".into()].into())));
}

#[test]
fn own_extensions_are_read_strictly() {
    let own = |text: &str| cluster(&format!("metadata: {{filter_metadata: {{dev.tulle: {text}}}}}"));
    let all = own("{retry_budget: {percent: 10}, deadline: {minimum_ms: 20}, peak_ewma: {decay_ms: 500}, \
         breaker: {consecutive_failures: 2, open_ms: 700, fallback: {cluster: other}}}");
    let all = all.unwrap();
    let said = all.own.as_deref().unwrap();
    assert_eq!(said.retry_rate.map(|rate| (rate.percent, rate.min_per_second)), Some((10.0, 3.0)));
    assert_eq!(said.deadline.map(|deadline| deadline.minimum), Some(Duration::from_millis(20)));
    let guarded = said.circuit.as_ref().unwrap();
    assert_eq!(guarded.circuit.open_for, Duration::from_millis(700));
    assert_eq!(guarded.fallback, Fallback::Cluster("other".into()));
    assert!(matches!(&all.lb.policy, LbPolicy::PeakEwma(settings) if settings.decay == Duration::from_millis(500)));
    let at = "metadata.dev.tulle";
    let refused = [
        ("{bogus: {}}", format!("{at}.bogus: is not a known extension")),
        ("{deadline: 5}", format!("{at}.deadline: must be a struct")),
        ("{deadline: {minimum: 5}}", format!("{at}.deadline.minimum: is not known")),
        ("{retry_budget: {percent: -1}}", format!("{at}.retry_budget.percent: must be a number from 0 to 1000")),
        (
            "{breaker: {fallback: {status: 200, cluster: x}}}",
            format!("{at}.breaker.fallback: needs exactly one of status, last_good_ms and cluster"),
        ),
        ("{breaker: {probes: 0}}", format!("{at}.breaker.probes: must be at least 1, or it never closes again")),
    ];
    for (text, expected) in refused {
        assert_eq!(own(text).err(), Some(vec![expected]), "{text}");
    }
}

#[test]
fn unlimited_retries_have_a_budget_by_default_and_limited_ones_do_not() {
    let limits = |text: &str| cluster(&format!("circuit_breakers: {{thresholds: [{text}]}}")).unwrap().own.is_some();
    assert!(limits("{max_retries: 4294967295}"));
    assert!(!limits("{max_retries: 3}"));
    assert!(!limits("{max_retries: 4294967295, retry_budget: {}}"));
    assert!(cluster("").unwrap().own.is_none());
}

#[test]
fn retries_and_rate_limits_of_routes() {
    let forward_of = forward(
        "{cluster: c, include_vh_rate_limits: true, \
         rate_limits: [{stage: 1, actions: [{masked_remote_address: {v4_prefix_mask_len: 24}}]}], \
         retry_policy: {retry_on: 5xx, rate_limited_retry_back_off: {reset_headers: [{name: X-Reset, format: UNIX_TIMESTAMP}]}, \
         retry_host_predicate: [{name: envoy.retry_host_predicates.omit_canary_hosts}]}}",
    );
    let made = forward_of.unwrap();
    assert_eq!((made.rate_limits[0].stage, made.host_rate_limits), (1, HostSlots::Include));
    let retry = made.retry.unwrap();
    assert_eq!(&*retry.avoid_labels[0], &[("canary".into(), "\u{1}true".into())]);
    assert_eq!(&*retry.rate_limited.unwrap().headers[0].name, "x-reset");
    let at = "virtual_hosts[0].routes[0].route";
    let wrong = forward(
        "{cluster: c, rate_limits: [{stage: 11, actions: [{metadata: {descriptor_key: k, metadata_key: {key: k}}}]}]}",
    );
    assert_eq!(
        wrong.err(),
        Some(vec![
            format!("{at}.rate_limits[0].stage: must be at most 10"),
            format!("{at}.rate_limits[0].actions[0].metadata.metadata_key.path: must not be empty"),
        ])
    );
}

fn limiter(fields: &str) -> Result<tulle_config::RateLimiter, Vec<String>> {
    use envoy_types::pb::envoy::config::listener::v3::Listener;
    use tulle_config::{HttpFilter, NetworkFilter};
    let text = format!(
        r#"
name: l
address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
filter_chains:
- filters:
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: s
      rds: {{route_config_name: r, config_source: {{ads: {{}}}}}}
      http_filters:
      - name: limit
        typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit, {fields}}}
      - {{name: envoy.filters.http.router}}
"#
    );
    let any = pack(&Messages::load().parse::<Listener>(&text).unwrap());
    match resource(Kind::Listener, &any) {
        Ok((Resource::Listener(listener), _)) => {
            let NetworkFilter::Http(hcm) = &listener.chains[0].filter else { panic!() };
            let HttpFilter::RateLimiter(named) = &hcm.filters[0] else { panic!("{:?}", hcm.filters[0]) };
            Ok((*named.settings).clone())
        }
        Ok(other) => panic!("{other:?}"),
        Err(findings) => Err(findings.iter().map(Finding::to_string).collect()),
    }
}

#[test]
fn global_rate_limits_have_envoys_defaults() {
    use tulle_config::rate_limiter::{Concerns, Mark};
    use tulle_core::FractionalPercent;
    let service = "rate_limit_service: {transport_api_version: V3, grpc_service: {envoy_grpc: {cluster_name: limits}}}";
    let plain = limiter(&format!("domain: d, {service}")).unwrap();
    assert_eq!((&*plain.domain, &*plain.service.cluster, &*plain.service.authority), ("d", "limits", "limits"));
    assert_eq!(
        (plain.service.timeout, plain.status, plain.status_on_failure),
        (Some(Duration::from_millis(20)), 429, 500)
    );
    assert_eq!((plain.concerns, plain.mark), (Concerns::Both, Mark::Said));
    assert_eq!((plain.enabled, plain.enforced), (FractionalPercent::ALWAYS, FractionalPercent::ALWAYS));
    assert_eq!(plain.denied_on_failure, FractionalPercent::NEVER);
    assert_eq!(&*plain.metadata, "envoy.filters.http.ratelimit");
    let strict = format!(
        "domain: d, {service}, timeout: 0s, failure_mode_deny: true, rate_limited_status: {{code: 300}}, \
         status_on_error: {{code: 503}}, request_type: internal, disable_x_envoy_ratelimited_header: true"
    );
    let strict = limiter(&strict).unwrap();
    assert_eq!((strict.service.timeout, strict.status, strict.status_on_failure), (None, 429, 503));
    assert_eq!((strict.concerns, strict.mark), (Concerns::Internal, Mark::Unsaid));
    assert_eq!(strict.denied_on_failure, FractionalPercent::ALWAYS);
}

#[test]
fn what_is_wrong_with_a_global_rate_limit_is_named() {
    let at = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config";
    assert_eq!(limiter("domain: d").unwrap_err(), [format!("{at}.rate_limit_service: is required")]);
    let wrong = limiter(
        "stage: 11, request_type: some, rate_limit_service: {transport_api_version: V2, grpc_service: {google_grpc: {target_uri: a, stat_prefix: b}}}",
    );
    assert_eq!(
        wrong.unwrap_err(),
        [
            format!("{at}.stage: must be at most 10"),
            format!("{at}.rate_limit_service.transport_api_version: must be V3"),
            format!("{at}.rate_limit_service.grpc_service.target_specifier: must be envoy_grpc"),
        ]
    );
}

#[test]
fn endpoints_may_be_checked_elsewhere() {
    let checked = cluster(
        "health_checks: [{timeout: 1s, interval: 5s, unhealthy_threshold: 2, healthy_threshold: 1, unhealthy_interval: 3s, \
         interval_jitter_percent: 10, tcp_health_check: {}}]\nload_assignment: {cluster_name: c, endpoints: [{lb_endpoints: \
         [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}, health_check_config: {port_value: 81, \
         hostname: h, disable_active_health_check: true}}}]}]}",
    )
    .unwrap();
    let check = &checked.health_checks[0];
    let seconds = |duration: Duration| duration.as_secs();
    assert_eq!((seconds(check.unhealthy_edge_interval), seconds(check.healthy_edge_interval)), (3, 5));
    assert_eq!((seconds(check.no_traffic_healthy_interval), check.interval_jitter_percent), (60, 10));
    let tulle_config::Discovery::Static(set) = &checked.discovery else { panic!() };
    let at = set.localities[0].endpoints[0].metadata.check.as_ref().unwrap();
    assert_eq!((at.port, at.hostname.as_deref(), at.disabled), (Some(81), Some("h"), true));
}
