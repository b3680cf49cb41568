//! Retry policies.

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::retry::host as host_pb;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use prost::Name as _;
use tulle_balance::endpoints::NO_TEXT;
use tulle_core::Str;
use tulle_policy::{Backoff, RateLimitedBackoff, ResetFormat, ResetHeader, RetryOn, RetryPolicy};

use super::common::{subset, uint};
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
    let (on, unknown) = RetryOn::parse(&retry_on);
    if let Some(word) = unknown {
        // Envoy ignores words it does not know; so do we, but say so.
        cx.field("retry_on", |cx| cx.warn(format!("{word:?} is not a condition")));
    }
    let predicates = cx.each("retry_host_predicate", retry_host_predicate, host_predicate);
    let avoid_previous_hosts = predicates.contains(&HostPredicate::Previous);
    let labels = predicates.into_iter().filter_map(|predicate| match predicate {
        HostPredicate::Labels(labels) => Some(labels),
        HostPredicate::Previous => None,
    });
    Some(RetryPolicy {
        on,
        num_retries: uint(num_retries).unwrap_or(1),
        per_try_timeout: cx.limit("per_try_timeout", per_try_timeout, None),
        per_try_idle_timeout: cx.limit("per_try_idle_timeout", per_try_idle_timeout, None),
        backoff: match retry_back_off {
            Some(back_off) => cx.field("retry_back_off", |cx| backoff(cx, back_off))?,
            None => Backoff::default(),
        },
        rate_limited: match rate_limited_retry_back_off {
            Some(back_off) => Some(cx.field("rate_limited_retry_back_off", |cx| rate_limited(cx, back_off))?),
            None => None,
        },
        retriable_status_codes: cx.each("retriable_status_codes", retriable_status_codes, status).into(),
        retriable_headers: cx.each("retriable_headers", retriable_headers, header_matcher).into(),
        retriable_request_headers: cx
            .each("retriable_request_headers", retriable_request_headers, header_matcher)
            .into(),
        host_selection_attempts: u32::try_from(host_selection_retry_max_attempts).unwrap_or(1).max(1),
        avoid_previous_hosts,
        avoid_labels: labels.collect(),
        leave_priorities_after: match retry_priority {
            Some(priority) => Some(cx.field("retry_priority", |cx| priority_of(cx, priority))?),
            None => None,
        },
    })
}

/// Whether a try that takes too long is left running beside the next. Envoy itself does nothing else with the policy.
pub fn hedged(cx: &mut Cx, message: route_pb::HedgePolicy) -> bool {
    let route_pb::HedgePolicy { initial_requests, additional_request_chance, hedge_on_per_try_timeout } = message;
    without_effect!(cx; initial_requests, additional_request_chance);
    hedge_on_per_try_timeout
}

fn status(cx: &mut Cx, code: u32) -> Option<u16> {
    let valid = u16::try_from(code).ok().filter(|code| (100..600).contains(code));
    if valid.is_none() {
        cx.error(format!("{code} is not an HTTP status"));
    }
    valid
}

/// Which hosts a retry avoids.
#[derive(PartialEq)]
enum HostPredicate {
    Previous,
    /// Those that have all of these labels.
    Labels(Box<[(Str, Str)]>),
}

fn host_predicate(cx: &mut Cx, message: route_pb::retry_policy::RetryHostPredicate) -> Option<HostPredicate> {
    use route_pb::retry_policy::retry_host_predicate::ConfigType;
    let route_pb::retry_policy::RetryHostPredicate { name, config_type } = message;
    let typed = match &config_type {
        Some(ConfigType::TypedConfig(any)) => type_name(&any.type_url).to_owned(),
        None => match name.as_str() {
            "envoy.retry_host_predicates.previous_hosts" => {
                host_pb::previous_hosts::v3::PreviousHostsPredicate::full_name()
            }
            "envoy.retry_host_predicates.omit_canary_hosts" => {
                host_pb::omit_canary_hosts::v3::OmitCanaryHostsPredicate::full_name()
            }
            _ => name.clone(),
        },
    };
    if typed == host_pb::previous_hosts::v3::PreviousHostsPredicate::full_name() {
        return Some(HostPredicate::Previous);
    }
    if typed == host_pb::omit_canary_hosts::v3::OmitCanaryHostsPredicate::full_name() {
        let truth = cx.intern(&format!("{NO_TEXT}true"));
        return Some(HostPredicate::Labels([(cx.intern("canary"), truth)].into()));
    }
    if let Some(ConfigType::TypedConfig(any)) = &config_type
        && typed == host_pb::omit_host_metadata::v3::OmitHostMetadataConfig::full_name()
    {
        let message = cx.unpack::<host_pb::omit_host_metadata::v3::OmitHostMetadataConfig>(any)?;
        let labels = cx.field("metadata_match", |cx| subset(cx, message.metadata_match));
        if labels.is_empty() {
            cx.error_at("metadata_match", "must hold labels under envoy.lb");
        }
        return Some(HostPredicate::Labels(labels));
    }
    cx.error(format!("the retry host predicate {name:?} is not supported"));
    None
}

/// After how many attempts each the tried priorities are left out.
fn priority_of(cx: &mut Cx, message: route_pb::retry_policy::RetryPriority) -> Option<u32> {
    use route_pb::retry_policy::retry_priority::ConfigType;
    let route_pb::retry_policy::RetryPriority { name, config_type } = message;
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        cx.error_at("typed_config", "is required");
        return None;
    };
    if type_name(&any.type_url) != PreviousPrioritiesConfig::full_name() {
        cx.error(format!("the retry priority {name:?} is not supported"));
        return None;
    }
    let PreviousPrioritiesConfig { update_frequency } = cx.unpack::<PreviousPrioritiesConfig>(&any)?;
    let frequency = u32::try_from(update_frequency).ok().filter(|frequency| *frequency > 0);
    if frequency.is_none() {
        cx.error_at("typed_config.update_frequency", "must be more than zero");
    }
    frequency
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

fn rate_limited(cx: &mut Cx, message: route_pb::retry_policy::RateLimitedRetryBackOff) -> Option<RateLimitedBackoff> {
    use route_pb::retry_policy::ResetHeaderFormat;
    let route_pb::retry_policy::RateLimitedRetryBackOff { reset_headers, max_interval } = message;
    if reset_headers.is_empty() {
        cx.error_at("reset_headers", "is required");
    }
    let headers = cx.each("reset_headers", reset_headers, |cx, header| {
        let route_pb::retry_policy::ResetHeader { name, format } = header;
        Some(ResetHeader {
            name: cx.name("name", &name.to_ascii_lowercase())?,
            format: match cx.enumeration::<ResetHeaderFormat>("format", format)? {
                ResetHeaderFormat::Seconds => ResetFormat::Seconds,
                ResetHeaderFormat::UnixTimestamp => ResetFormat::UnixTimestamp,
            },
        })
    });
    // Envoy's default is 300 s.
    let max = cx.duration("max_interval", max_interval).unwrap_or(std::time::Duration::from_secs(300));
    Some(RateLimitedBackoff { headers: headers.into(), max })
}
