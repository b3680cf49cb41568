//! The TCP proxy filter.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_pb;
use envoy_types::pb::envoy::r#type::v3 as type_pb;
use tulle_config::TcpProxy;
use tulle_config::tcp::{Tunneling, WeightedTcpCluster};
use tulle_core::Str;
use tulle_route::HeaderMutation;
use tulle_telemetry::TextFormat;

use super::access_log::{access_log, formatter};
use super::common::{subset, uint};
use super::cx::{Cx, refuse, without_effect};
use super::mutation::header_value;

/// Envoy's default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

pub fn tcp_proxy(cx: &mut Cx, message: tcp_pb::TcpProxy) -> Option<TcpProxy> {
    use tcp_pb::tcp_proxy::ClusterSpecifier;
    let tcp_pb::TcpProxy {
        stat_prefix,
        on_demand,
        metadata_match,
        idle_timeout,
        downstream_idle_timeout,
        upstream_idle_timeout,
        access_log: logs,
        max_connect_attempts,
        backoff_options,
        hash_policy,
        tunneling_config,
        max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage,
        access_log_flush_interval,
        flush_access_log_on_connected,
        access_log_options,
        proxy_protocol_tlvs,
        proxy_protocol_tlv_merge_policy,
        upstream_connect_mode,
        max_early_data_bytes,
        check_drain_close,
        cluster_specifier,
    } = message;
    refuse!(cx; on_demand, proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy,
        upstream_connect_mode, max_early_data_bytes);
    without_effect!(cx; downstream_idle_timeout, upstream_idle_timeout, backoff_options,
        max_downstream_connection_duration_jitter_percentage, access_log_flush_interval,
        flush_access_log_on_connected, access_log_options, check_drain_close);
    let subset = cx.field("metadata_match", |cx| subset(cx, metadata_match));
    let clusters = match cx.required("cluster_specifier", cluster_specifier)? {
        ClusterSpecifier::Cluster(name) => {
            vec![WeightedTcpCluster { name: cx.name("cluster", &name)?, weight: 1, subset: subset.clone() }]
        }
        ClusterSpecifier::WeightedClusters(weighted) => cx.field("weighted_clusters", |cx| {
            cx.each("clusters", weighted.clusters, |cx, cluster| weighted_cluster(cx, cluster, &subset))
        }),
    };
    let total_weight = clusters.iter().try_fold(0u32, |sum, cluster| sum.checked_add(cluster.weight));
    let Some(total_weight) = total_weight.filter(|total| *total > 0) else {
        cx.error_at("weighted_clusters", "weights must sum to between 1 and 4294967295");
        return None;
    };
    let hashes = cx.each("hash_policy", hash_policy, hash);
    Some(TcpProxy {
        sni_port: None,
        sni_cluster: false,
        tunneling: match tunneling_config {
            Some(config) => Some(Box::new(cx.field("tunneling_config", |cx| tunneling(cx, config))?)),
            None => None,
        },
        stat_prefix: cx.name("stat_prefix", &stat_prefix)?,
        clusters,
        total_weight,
        idle_timeout: cx.limit("idle_timeout", idle_timeout, Some(IDLE_TIMEOUT)),
        max_connection_duration: cx.limit(
            "max_downstream_connection_duration",
            max_downstream_connection_duration,
            None,
        ),
        max_connect_attempts: uint(max_connect_attempts).unwrap_or(1).max(1),
        hash_source_ip: !hashes.is_empty(),
        access_logs: cx.each("access_log", logs, access_log).into_iter().flatten().collect(),
    })
}

fn tunneling(cx: &mut Cx, message: tcp_pb::tcp_proxy::TunnelingConfig) -> Option<Tunneling> {
    let tcp_pb::tcp_proxy::TunnelingConfig {
        hostname,
        use_post,
        headers_to_add,
        propagate_response_headers,
        post_path,
        propagate_response_trailers,
        request_id_extension,
        request_id_header,
        request_id_metadata_key,
        formatters,
    } = message;
    cx.each("formatters", formatters, formatter);
    refuse!(cx; use_post, post_path, request_id_extension, request_id_header, request_id_metadata_key);
    without_effect!(cx; propagate_response_headers, propagate_response_trailers);
    cx.name("hostname", &hostname)?;
    let target = match TextFormat::parse(&hostname) {
        Ok(target) => target,
        Err(error) => {
            cx.error_at("hostname", error.to_string());
            return None;
        }
    };
    let headers = cx.each("headers_to_add", headers_to_add, header_value);
    Some(Tunneling { target, headers: headers.into_iter().map(HeaderMutation::Add).collect() })
}

fn weighted_cluster(
    cx: &mut Cx,
    message: tcp_pb::tcp_proxy::weighted_cluster::ClusterWeight,
    common: &[(Str, Str)],
) -> Option<WeightedTcpCluster> {
    let tcp_pb::tcp_proxy::weighted_cluster::ClusterWeight { name, weight, metadata_match } = message;
    let own = cx.field("metadata_match", |cx| subset(cx, metadata_match));
    let kept = common.iter().filter(|(key, _)| own.iter().all(|(other, _)| other != key));
    let mut merged: Vec<_> = kept.chain(own.iter()).cloned().collect();
    merged.sort();
    Some(WeightedTcpCluster { name: cx.name("name", &name)?, weight, subset: merged.into() })
}

fn hash(cx: &mut Cx, message: type_pb::HashPolicy) -> Option<()> {
    use type_pb::hash_policy::PolicySpecifier;
    match message.policy_specifier {
        Some(PolicySpecifier::SourceIp(_)) => Some(()),
        _ => {
            cx.error("only source_ip is supported");
            None
        }
    }
}
