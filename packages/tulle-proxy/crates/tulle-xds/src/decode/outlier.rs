//! Outlier detection and circuit breakers.

use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::google::protobuf;
use tulle_balance::OutlierConfig;
use tulle_policy::{BreakerLimits, CircuitBreakers, Priority, RetryBudgetConfig};

use super::common::{percent, truth, uint};
use super::cx::{Cx, refuse, without_effect};

pub fn outlier_detection(cx: &mut Cx, message: cluster_pb::OutlierDetection) -> OutlierConfig {
    let cluster_pb::OutlierDetection {
        consecutive_5xx,
        interval,
        base_ejection_time,
        max_ejection_percent,
        enforcing_consecutive_5xx,
        enforcing_success_rate,
        success_rate_minimum_hosts,
        success_rate_request_volume,
        success_rate_stdev_factor,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        split_external_local_origin_errors,
        consecutive_local_origin_failure,
        enforcing_consecutive_local_origin_failure,
        enforcing_local_origin_success_rate,
        failure_percentage_threshold,
        enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin,
        failure_percentage_minimum_hosts,
        failure_percentage_request_volume,
        max_ejection_time,
        max_ejection_time_jitter,
        successful_active_health_check_uneject_host,
        monitors,
        always_eject_one_host,
        detect_degraded_hosts,
    } = message;
    refuse!(cx; monitors);
    without_effect!(cx; detect_degraded_hosts);
    let defaults = OutlierConfig::default();
    let share = |cx: &mut Cx, name: &str, value: Option<protobuf::UInt32Value>, default: u32| {
        let value = uint(value).unwrap_or(default);
        if value > 100 {
            cx.error_at(name, format!("{value} is not between 0 and 100"));
        }
        value
    };
    let or = |value: Option<protobuf::UInt32Value>, default: u32| uint(value).unwrap_or(default);
    let base_ejection_time =
        cx.positive("base_ejection_time", base_ejection_time).unwrap_or(defaults.base_ejection_time);
    // Envoy: without it, the larger of the default and the base time.
    let max_ejection_time = cx
        .positive("max_ejection_time", max_ejection_time)
        .unwrap_or(defaults.max_ejection_time.max(base_ejection_time));
    if max_ejection_time < base_ejection_time {
        cx.error_at("max_ejection_time", "must not be less than base_ejection_time");
    }
    OutlierConfig {
        consecutive_5xx: or(consecutive_5xx, defaults.consecutive_5xx),
        enforcing_consecutive_5xx: share(
            cx,
            "enforcing_consecutive_5xx",
            enforcing_consecutive_5xx,
            defaults.enforcing_consecutive_5xx,
        ),
        consecutive_gateway_failure: or(consecutive_gateway_failure, defaults.consecutive_gateway_failure),
        enforcing_consecutive_gateway_failure: share(
            cx,
            "enforcing_consecutive_gateway_failure",
            enforcing_consecutive_gateway_failure,
            defaults.enforcing_consecutive_gateway_failure,
        ),
        split_external_local_origin_errors,
        consecutive_local_origin_failure: or(
            consecutive_local_origin_failure,
            defaults.consecutive_local_origin_failure,
        ),
        enforcing_consecutive_local_origin_failure: share(
            cx,
            "enforcing_consecutive_local_origin_failure",
            enforcing_consecutive_local_origin_failure,
            defaults.enforcing_consecutive_local_origin_failure,
        ),
        interval: cx.positive("interval", interval).unwrap_or(defaults.interval),
        base_ejection_time,
        max_ejection_time,
        max_ejection_time_jitter: cx
            .duration("max_ejection_time_jitter", max_ejection_time_jitter)
            .unwrap_or(defaults.max_ejection_time_jitter),
        max_ejection_percent: share(cx, "max_ejection_percent", max_ejection_percent, defaults.max_ejection_percent),
        always_eject_one_host: truth(always_eject_one_host, defaults.always_eject_one_host),
        success_rate_minimum_hosts: or(success_rate_minimum_hosts, defaults.success_rate_minimum_hosts),
        success_rate_request_volume: or(success_rate_request_volume, defaults.success_rate_request_volume),
        success_rate_stdev_factor: or(success_rate_stdev_factor, defaults.success_rate_stdev_factor),
        enforcing_success_rate: share(
            cx,
            "enforcing_success_rate",
            enforcing_success_rate,
            defaults.enforcing_success_rate,
        ),
        enforcing_local_origin_success_rate: share(
            cx,
            "enforcing_local_origin_success_rate",
            enforcing_local_origin_success_rate,
            defaults.enforcing_local_origin_success_rate,
        ),
        enforcing_failure_percentage_local_origin: share(
            cx,
            "enforcing_failure_percentage_local_origin",
            enforcing_failure_percentage_local_origin,
            defaults.enforcing_failure_percentage_local_origin,
        ),
        returned_by_health_check: truth(successful_active_health_check_uneject_host, defaults.returned_by_health_check),
        failure_percentage_threshold: share(
            cx,
            "failure_percentage_threshold",
            failure_percentage_threshold,
            defaults.failure_percentage_threshold,
        ),
        enforcing_failure_percentage: share(
            cx,
            "enforcing_failure_percentage",
            enforcing_failure_percentage,
            defaults.enforcing_failure_percentage,
        ),
        failure_percentage_minimum_hosts: or(
            failure_percentage_minimum_hosts,
            defaults.failure_percentage_minimum_hosts,
        ),
        failure_percentage_request_volume: or(
            failure_percentage_request_volume,
            defaults.failure_percentage_request_volume,
        ),
    }
}

pub fn circuit_breakers(cx: &mut Cx, message: cluster_pb::CircuitBreakers) -> CircuitBreakers {
    let cluster_pb::CircuitBreakers { thresholds, per_host_thresholds } = message;
    let mut breakers = CircuitBreakers::default();
    for (priority, limits) in cx.each("thresholds", thresholds, limits) {
        match priority {
            Priority::Default => breakers.default = limits,
            Priority::High => breakers.high = limits,
        }
    }
    let per_host = cx.each("per_host_thresholds", per_host_thresholds, per_host_connections);
    breakers.per_host_max_connections = per_host.first().copied();
    breakers
}

/// Of single hosts Envoy too limits connections alone, whatever their priority.
fn per_host_connections(cx: &mut Cx, message: cluster_pb::circuit_breakers::Thresholds) -> Option<u32> {
    let cluster_pb::circuit_breakers::Thresholds {
        priority: _,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = message;
    without_effect!(cx; max_pending_requests, max_requests, max_retries, retry_budget, track_remaining,
        max_connection_pools);
    uint(max_connections)
}

fn limits(cx: &mut Cx, message: cluster_pb::circuit_breakers::Thresholds) -> Option<(Priority, BreakerLimits)> {
    let cluster_pb::circuit_breakers::Thresholds {
        priority,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = message;
    let defaults = BreakerLimits::default();
    let priority = match cx.enumeration::<RoutingPriority>("priority", priority)? {
        RoutingPriority::Default => Priority::Default,
        RoutingPriority::High => Priority::High,
    };
    let limits = BreakerLimits {
        max_connections: uint(max_connections).unwrap_or(defaults.max_connections),
        max_pending_requests: uint(max_pending_requests).unwrap_or(defaults.max_pending_requests),
        max_requests: uint(max_requests).unwrap_or(defaults.max_requests),
        max_retries: uint(max_retries).unwrap_or(defaults.max_retries),
        retry_budget: retry_budget.map(|budget| cx.field("retry_budget", |cx| retry_budget_of(cx, budget))),
        max_connection_pools: uint(max_connection_pools),
        track_remaining,
    };
    Some((priority, limits))
}

fn retry_budget_of(cx: &mut Cx, message: cluster_pb::circuit_breakers::thresholds::RetryBudget) -> RetryBudgetConfig {
    let cluster_pb::circuit_breakers::thresholds::RetryBudget {
        budget_percent,
        budget_interval,
        min_retry_concurrency,
    } = message;
    let defaults = RetryBudgetConfig::default();
    RetryBudgetConfig {
        percent: percent(cx, "budget_percent", budget_percent, defaults.percent),
        min_concurrency: uint(min_retry_concurrency).unwrap_or(defaults.min_concurrency),
        interval: cx.duration("budget_interval", budget_interval).unwrap_or_default(),
    }
}
