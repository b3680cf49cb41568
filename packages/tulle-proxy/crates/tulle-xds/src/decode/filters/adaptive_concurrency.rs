//! The adaptive concurrency filter, with its gradient controller.

use std::time::Duration;

use concurrency_pb::adaptive_concurrency::ConcurrencyControllerConfig;
use concurrency_pb::gradient_controller_config as gradient_pb;
use envoy_types::pb::envoy::extensions::filters::http::adaptive_concurrency::v3 as concurrency_pb;
use tulle_config::filters::AdaptiveConcurrency;
use tulle_policy::gradient::{Gradient, GradientConfig, Learn};

use super::super::common::{percent, runtime_flag, uint};
use super::super::cx::Cx;

/// `Some(None)` when it is switched off.
pub fn adaptive_concurrency(
    cx: &mut Cx,
    message: concurrency_pb::AdaptiveConcurrency,
) -> Option<Option<AdaptiveConcurrency>> {
    let concurrency_pb::AdaptiveConcurrency {
        enabled,
        concurrency_limit_exceeded_status,
        concurrency_controller_config,
    } = message;
    let specified = cx.required("gradient_controller_config", concurrency_controller_config)?;
    let ConcurrencyControllerConfig::GradientControllerConfig(settings) = specified;
    let config = cx.field("gradient_controller_config", |cx| gradient(cx, settings))?;
    if !runtime_flag(cx, enabled) {
        return Some(None);
    }
    let status = match concurrency_limit_exceeded_status.map(|status| status.code) {
        // As Envoy: what is no error is taken for a mistake.
        Some(code @ 400..600) => code as u16,
        _ => 503,
    };
    Some(Some(AdaptiveConcurrency { status, gradient: Gradient::new(config, 0) }))
}

fn gradient(cx: &mut Cx, message: concurrency_pb::GradientControllerConfig) -> Option<GradientConfig> {
    let concurrency_pb::GradientControllerConfig {
        sample_aggregate_percentile,
        concurrency_limit_params,
        min_rtt_calc_params,
    } = message;
    let limits = cx.required("concurrency_limit_params", concurrency_limit_params)?;
    let rtt = cx.required("min_rtt_calc_params", min_rtt_calc_params)?;
    let gradient_pb::ConcurrencyLimitCalculationParams {
        max_concurrency_limit,
        concurrency_update_interval,
        min_concurrency_limit,
    } = limits;
    let update_interval = cx.field("concurrency_limit_params", |cx| {
        let interval = cx.required("concurrency_update_interval", concurrency_update_interval)?;
        positive(cx, "concurrency_update_interval", interval)
    })?;
    let buffer = percent(cx, "min_rtt_calc_params.buffer", rtt.buffer, 25.0);
    Some(GradientConfig {
        percentile: percent(cx, "sample_aggregate_percentile", sample_aggregate_percentile, 50.0),
        max_limit: uint(max_concurrency_limit).unwrap_or(1000).max(1),
        min_limit: uint(min_concurrency_limit).unwrap_or(3).max(1),
        update_interval,
        learn: cx.field("min_rtt_calc_params", |cx| learn(cx, rtt))?,
        buffer,
    })
}

fn learn(cx: &mut Cx, message: gradient_pb::MinimumRttCalculationParams) -> Option<Learn> {
    let gradient_pb::MinimumRttCalculationParams {
        interval,
        fixed_value,
        request_count,
        jitter,
        min_concurrency,
        buffer: _,
    } = message;
    match (interval, fixed_value) {
        (None, Some(fixed)) => positive(cx, "fixed_value", fixed).map(Learn::Fixed),
        (Some(interval), None) => Some(Learn::Measured {
            interval: positive(cx, "interval", interval)?,
            jitter: percent(cx, "jitter", jitter, 15.0),
            requests: uint(request_count).unwrap_or(50).max(1),
            concurrency: uint(min_concurrency).unwrap_or(3).max(1),
        }),
        _ => {
            cx.error("needs exactly one of interval and fixed_value");
            None
        }
    }
}

fn positive(cx: &mut Cx, name: &str, value: envoy_types::pb::google::protobuf::Duration) -> Option<Duration> {
    let duration = cx.duration(name, Some(value))?;
    if duration.is_zero() {
        cx.error_at(name, "must be more than zero");
        return None;
    }
    Some(duration)
}
