//! Retry policies.

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use prost::Name as _;
use tulle_policy::{Backoff, RetryOn, RetryPolicy};

use super::common::uint;
use super::cx::{Cx, refuse, type_name, without_effect};
use super::matchers::header_matcher;

pub fn retry_policy(cx: &mut Cx, message: route_pb::RetryPolicy) -> Option<RetryPolicy> {
    let route_pb::RetryPolicy {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_priority,
        retry_host_predicate,
        retry_options_predicates,
        host_selection_retry_max_attempts,
        retriable_status_codes,
        retry_back_off,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
        refresh_cluster_on_retry,
    } = message;
    refuse!(cx; retry_options_predicates, refresh_cluster_on_retry);
    without_effect!(cx; retry_priority);
    let (on, unknown) = RetryOn::parse(&retry_on);
    if let Some(word) = unknown {
        // Envoy ignores words it does not know; so do we, but say so.
        cx.field("retry_on", |cx| cx.warn(format!("{word:?} is not a condition")));
    }
    let previous = cx.each("retry_host_predicate", retry_host_predicate, host_predicate);
    Some(RetryPolicy {
        on,
        num_retries: uint(num_retries).unwrap_or(1),
        per_try_timeout: cx.limit("per_try_timeout", per_try_timeout, None),
        per_try_idle_timeout: cx.limit("per_try_idle_timeout", per_try_idle_timeout, None),
        backoff: match retry_back_off {
            Some(back_off) => cx.field("retry_back_off", |cx| backoff(cx, back_off))?,
            None => Backoff::default(),
        },
        rate_limited_backoff_max: match rate_limited_retry_back_off {
            Some(back_off) => cx.field("rate_limited_retry_back_off", |cx| rate_limited(cx, back_off)),
            None => None,
        },
        retriable_status_codes: cx.each("retriable_status_codes", retriable_status_codes, status).into(),
        retriable_headers: cx.each("retriable_headers", retriable_headers, header_matcher).into(),
        retriable_request_headers: cx
            .each("retriable_request_headers", retriable_request_headers, header_matcher)
            .into(),
        host_selection_attempts: u32::try_from(host_selection_retry_max_attempts).unwrap_or(1).max(1),
        avoid_previous_hosts: !previous.is_empty(),
    })
}

fn status(cx: &mut Cx, code: u32) -> Option<u16> {
    let valid = u16::try_from(code).ok().filter(|code| (100..600).contains(code));
    if valid.is_none() {
        cx.error(format!("{code} is not an HTTP status"));
    }
    valid
}

fn host_predicate(cx: &mut Cx, message: route_pb::retry_policy::RetryHostPredicate) -> Option<()> {
    use route_pb::retry_policy::retry_host_predicate::ConfigType;
    let route_pb::retry_policy::RetryHostPredicate { name, config_type } = message;
    let known = match &config_type {
        Some(ConfigType::TypedConfig(any)) => type_name(&any.type_url) == PreviousHostsPredicate::full_name(),
        None => name == "envoy.retry_host_predicates.previous_hosts",
    };
    if !known {
        cx.error(format!("the retry host predicate {name:?} is not supported"));
    }
    known.then_some(())
}

fn backoff(cx: &mut Cx, message: route_pb::retry_policy::RetryBackOff) -> Option<Backoff> {
    let route_pb::retry_policy::RetryBackOff { base_interval, max_interval } = message;
    let base = cx.required("base_interval", base_interval)?;
    let base = cx.duration("base_interval", Some(base))?;
    let backoff = Backoff::from_base(base);
    let max = cx.duration("max_interval", max_interval).unwrap_or(backoff.max);
    if base.is_zero() || max < base {
        cx.error("base_interval must be positive and max_interval not below it");
        return None;
    }
    Some(Backoff { base, max })
}

fn rate_limited(cx: &mut Cx, message: route_pb::retry_policy::RateLimitedRetryBackOff) -> Option<std::time::Duration> {
    let route_pb::retry_policy::RateLimitedRetryBackOff { reset_headers, max_interval } = message;
    if reset_headers.is_empty() {
        cx.error_at("reset_headers", "is required");
    }
    let known = ["retry-after", "x-ratelimit-reset"];
    for header in &reset_headers {
        if !known.contains(&header.name.to_ascii_lowercase().as_str()) {
            cx.error_at("reset_headers", format!("{:?} is not supported", header.name));
        }
    }
    // Envoy's default is 300 s.
    Some(cx.duration("max_interval", max_interval).unwrap_or(std::time::Duration::from_secs(300)))
}
