//! Routes that forward: the cluster or clusters, rewrites, timeouts, hash policies, mirrors and upgrades.

use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use route_pb::route_action as action_pb;
use route_pb::weighted_cluster::RandomValueSpecifier;
use tulle_config::Runtime;
use tulle_core::FractionalPercent;
use tulle_policy::descriptors::HostSlots;
use tulle_policy::{Priority, StreamLimits, TimeoutPolicy};
use tulle_route::{
    ClusterName, ClusterTarget, DrawBy, Forward, Mirror, MirrorHost, PathMatch, UpgradePolicy, WeightedCluster,
};

use super::common::{optional, runtime_fraction, subset, truth, uint};
use super::cx::{Cx, refuse, without_effect};
use super::filters::{Level, overrides, slot};
use super::hash_policy::hash_policy;
use super::internal_redirect::{by_action, internal_redirects};
use super::mutation::{Lists, header_mutation, mutations};
use super::retry::{hedged, retry_policy};
use super::rewrites::{self, PathRewrites};

/// Decodes a route action, for the paths that its route matches; its `cors` has been taken by the route already.
pub fn forward(cx: &mut Cx, message: route_pb::RouteAction, matched: &PathMatch) -> Option<Forward> {
    let route_pb::RouteAction {
        cluster_not_found_response_code,
        metadata_match,
        prefix_rewrite,
        regex_rewrite: rewrite,
        path_rewrite_policy,
        path_rewrite,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        early_data_policy,
        retry_policy: retry,
        retry_policy_typed_config,
        request_mirror_policies,
        priority,
        rate_limits,
        include_vh_rate_limits,
        hash_policy: hash,
        cors: _,
        max_grpc_timeout,
        grpc_timeout_offset,
        upgrade_configs,
        internal_redirect_policy,
        internal_redirect_action,
        max_internal_redirects,
        hedge_policy,
        max_stream_duration,
        cluster_specifier,
        host_rewrite_specifier,
    } = message;
    refuse!(cx; retry_policy_typed_config);
    without_effect!(cx; flush_timeout, early_data_policy);
    let specifier = cx.required("cluster_specifier", cluster_specifier)?;
    let mut forward = Forward {
        draw_by: draw_by(cx, &specifier),
        target: target(cx, specifier)?,
        cluster_not_found_status: not_found_status(cx, cluster_not_found_response_code)?,
        timeouts: TimeoutPolicy {
            request: cx.limit("timeout", timeout, TimeoutPolicy::default().request),
            idle: idle_timeout.map(|idle| cx.limit("idle_timeout", Some(idle), None)),
            max_grpc: max_grpc_timeout.map(|max| cx.limit("max_grpc_timeout", Some(max), None)),
            grpc_offset: cx.limit("grpc_timeout_offset", grpc_timeout_offset, None),
            stream: None,
        },
        priority: match cx.enumeration::<RoutingPriority>("priority", priority)? {
            RoutingPriority::Default => Priority::Default,
            RoutingPriority::High => Priority::High,
        },
        ..Forward::to(cx.intern(""))
    };
    if let Some(durations) = max_stream_duration {
        forward.timeouts.stream = Some(cx.field("max_stream_duration", |cx| stream_limits(cx, durations)));
    }
    let given =
        PathRewrites { prefix: prefix_rewrite, regex: rewrite, policy: path_rewrite_policy, format: path_rewrite };
    forward.path_rewrite = rewrites::path(cx, given, matched)?;
    forward.host_rewrite = match host_rewrite_specifier {
        Some(specifier) => rewrites::host(cx, specifier)?,
        None => None,
    };
    forward.internal_redirects = match internal_redirect_policy {
        Some(policy) => cx.field("internal_redirect_policy", |cx| internal_redirects(cx, policy)),
        None => by_action(cx, internal_redirect_action, uint(max_internal_redirects)),
    }
    .map(Box::new);
    forward.append_x_forwarded_host = append_x_forwarded_host;
    forward.retry = retry.and_then(|retry| cx.field("retry_policy", |cx| retry_policy(cx, retry)));
    forward.hedged = hedge_policy.map(|policy| cx.field("hedge_policy", |cx| hedged(cx, policy)));
    forward.hash = cx.each("hash_policy", hash, hash_policy).into();
    forward.mirrors = cx.each("request_mirror_policies", request_mirror_policies, mirror).into();
    forward.upgrades = cx.each("upgrade_configs", upgrade_configs, upgrade).into();
    forward.rate_limits = cx.each("rate_limits", rate_limits, slot).into();
    forward.host_rate_limits =
        if truth(include_vh_rate_limits, false) { HostSlots::Include } else { HostSlots::Override };
    forward.subset = cx.field("metadata_match", |cx| subset(cx, metadata_match));
    Some(forward)
}

fn not_found_status(cx: &mut Cx, code: i32) -> Option<u16> {
    use action_pb::ClusterNotFoundResponseCode as Code;
    Some(match cx.enumeration::<Code>("cluster_not_found_response_code", code)? {
        Code::ServiceUnavailable => 503,
        Code::NotFound => 404,
        Code::InternalServerError => 500,
    })
}

fn stream_limits(cx: &mut Cx, message: action_pb::MaxStreamDuration) -> StreamLimits {
    let action_pb::MaxStreamDuration { max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset } =
        message;
    StreamLimits {
        max: max_stream_duration.map(|max| cx.limit("max_stream_duration", Some(max), None)),
        max_grpc: grpc_timeout_header_max.map(|max| cx.limit("grpc_timeout_header_max", Some(max), None)),
        grpc_offset: cx.limit("grpc_timeout_header_offset", grpc_timeout_header_offset, None),
    }
}

/// What decides among weighted clusters, beside chance.
fn draw_by(cx: &mut Cx, specifier: &action_pb::ClusterSpecifier) -> Option<DrawBy> {
    let action_pb::ClusterSpecifier::WeightedClusters(clusters) = specifier else { return None };
    match clusters.random_value_specifier.as_ref()? {
        RandomValueSpecifier::HeaderName(name) => Some(DrawBy::Header(cx.intern(&name.to_ascii_lowercase()))),
        RandomValueSpecifier::UseHashPolicy(wanted) => wanted.value.then_some(DrawBy::Hash),
    }
}

fn target(cx: &mut Cx, specifier: action_pb::ClusterSpecifier) -> Option<ClusterTarget> {
    use action_pb::ClusterSpecifier as Specifier;
    match specifier {
        Specifier::Cluster(name) => {
            cx.name("cluster", &name)?;
            Some(ClusterTarget::Single(cx.cluster("cluster", &name)))
        }
        Specifier::ClusterHeader(name) => {
            cx.name("cluster_header", &name.to_ascii_lowercase()).map(ClusterTarget::Header)
        }
        Specifier::WeightedClusters(clusters) => cx.field("weighted_clusters", |cx| weighted(cx, clusters)),
        Specifier::ClusterSpecifierPlugin(_) => {
            cx.refuse("cluster_specifier_plugin");
            None
        }
        Specifier::InlineClusterSpecifierPlugin(_) => {
            cx.refuse("inline_cluster_specifier_plugin");
            None
        }
    }
}

fn weighted(cx: &mut Cx, message: route_pb::WeightedCluster) -> Option<ClusterTarget> {
    // What decides has been read with the route's action.
    let route_pb::WeightedCluster { clusters, total_weight, runtime_key_prefix, random_value_specifier: _ } = message;
    // The sum is what counts (Envoy deprecated total_weight).
    let _ = total_weight;
    let clusters = cx.each("clusters", clusters, |cx, message| cluster_weight(cx, message, &runtime_key_prefix));
    let sum: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if sum == 0 || sum > u64::from(u32::MAX) {
        cx.error_at("clusters", "weights must sum to between 1 and 4294967295");
        return None;
    }
    Some(ClusterTarget::Weighted(clusters.into()))
}

fn cluster_weight(
    cx: &mut Cx,
    message: route_pb::weighted_cluster::ClusterWeight,
    runtime_prefix: &str,
) -> Option<WeightedCluster> {
    use route_pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    let route_pb::weighted_cluster::ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        host_rewrite_specifier,
    } = message;
    let name = match (name.is_empty(), cluster_header.is_empty()) {
        (true, false) => ClusterName::Header(cx.intern(&cluster_header.to_ascii_lowercase())),
        (false, true) => ClusterName::Is(cx.cluster("name", &name)),
        _ => {
            cx.error_at("name", "must be given, or else cluster_header");
            return None;
        }
    };
    let weight = uint(weight).unwrap_or(0);
    let weight = match (&name, runtime_prefix) {
        (ClusterName::Is(name), prefix) if !prefix.is_empty() => {
            let overridden = cx.runtime(&format!("{prefix}.{name}"), Runtime::integer);
            overridden.map_or(weight, |weight| u32::try_from(weight).unwrap_or(u32::MAX))
        }
        _ => weight,
    };
    let host_rewrite = host_rewrite_specifier.map(|HostRewriteSpecifier::HostRewriteLiteral(host)| cx.intern(&host));
    Some(WeightedCluster {
        name,
        weight,
        mutations: mutations(
            cx,
            Lists {
                request_add: request_headers_to_add,
                request_remove: request_headers_to_remove,
                response_add: response_headers_to_add,
                response_remove: response_headers_to_remove,
            },
        ),
        host_rewrite,
        subset: cx.field("metadata_match", |cx| subset(cx, metadata_match)),
        filters: overrides(cx, Level { typed: typed_per_filter_config, cors: None }),
    })
}

pub fn mirror(cx: &mut Cx, message: action_pb::RequestMirrorPolicy) -> Option<Mirror> {
    let action_pb::RequestMirrorPolicy {
        cluster,
        cluster_header,
        runtime_fraction: fraction,
        trace_sampled,
        disable_shadow_host_suffix_append,
        request_headers_mutations,
        host_rewrite_literal,
    } = message;
    without_effect!(cx; trace_sampled);
    if !cluster.is_empty() && !cluster_header.is_empty() {
        cx.error_at("cluster_header", "must not be given beside cluster");
    }
    Some(Mirror {
        mutations: cx.each("request_headers_mutations", request_headers_mutations, header_mutation).into(),
        cluster: if cluster.is_empty() {
            ClusterName::Header(cx.name("cluster", &cluster_header.to_ascii_lowercase())?)
        } else {
            ClusterName::Is(cx.cluster("cluster", &cluster))
        },
        fraction: match fraction {
            Some(fraction) => cx.field("runtime_fraction", |cx| runtime_fraction(cx, fraction))?,
            None => FractionalPercent::ALWAYS,
        },
        host: match optional(cx, &host_rewrite_literal) {
            Some(host) => MirrorHost::Is(host),
            None if disable_shadow_host_suffix_append => MirrorHost::Keep,
            None => MirrorHost::Shadow,
        },
    })
}

fn upgrade(cx: &mut Cx, message: action_pb::UpgradeConfig) -> Option<UpgradePolicy> {
    let action_pb::UpgradeConfig { upgrade_type, enabled, connect_config } = message;
    if let Some(connect) = &connect_config
        && (connect.proxy_protocol_config.is_some() || connect.allow_post)
    {
        cx.refuse("connect_config");
    }
    Some(UpgradePolicy {
        kind: cx.name("upgrade_type", &upgrade_type)?,
        enabled: truth(enabled, true),
        terminate_connect: connect_config.is_some(),
    })
}
