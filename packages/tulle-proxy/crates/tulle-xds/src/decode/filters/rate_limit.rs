//! The global rate limit: who counts, which descriptors, and what happens beyond a limit or without an answer.

use std::time::Duration;

use envoy_types::pb::envoy::config::ratelimit::v3 as service_pb;
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3 as limit_pb;
use envoy_types::pb::envoy::r#type::v3 as type_pb;
use tulle_config::RateLimiter;
use tulle_config::rate_limiter::{Concerns, Mark};
use tulle_core::FractionalPercent;
use tulle_policy::FilterOverride;
use tulle_policy::descriptors::HostSlots;
use tulle_policy::local_rate_limit::{GrpcRefusal, Report, RetryAfter};
use tulle_policy::remote_limit::RateLimiterOverride;

use super::super::common::{optional, runtime_fraction};
use super::super::cx::{Cx, without_effect};
use super::grpc::{service, version};
use super::local_rate_limit::{headers, status_of};
use super::rate_slots::own_slot;

/// Envoy's default.
const TIMEOUT: Duration = Duration::from_millis(20);
const METADATA: &str = "envoy.filters.http.ratelimit";

pub fn rate_limiter(cx: &mut Cx, message: limit_pb::RateLimit) -> Option<RateLimiter> {
    let limit_pb::RateLimit {
        domain,
        stage,
        request_type,
        timeout,
        failure_mode_deny,
        rate_limited_as_resource_exhausted,
        rate_limit_service,
        enable_x_ratelimit_headers,
        disable_x_envoy_ratelimited_header,
        rate_limited_status,
        response_headers_to_add,
        status_on_error,
        stat_prefix,
        filter_enabled,
        filter_enforced,
        failure_mode_deny_percent,
        rate_limits,
        metadata_namespace,
        enable_retry_after_header,
    } = message;
    without_effect!(cx; stat_prefix);
    if stage > 10 {
        cx.error_at("stage", "must be at most 10");
    }
    let asked = cx.required("rate_limit_service", rate_limit_service)?;
    let mut asked = cx.field("rate_limit_service", |cx| who(cx, asked))?;
    asked.timeout = cx.limit("timeout", timeout, Some(TIMEOUT));
    let always = |yes: bool| if yes { FractionalPercent::ALWAYS } else { FractionalPercent::NEVER };
    let share = |cx: &mut Cx, name: &str, message, default| match message {
        Some(message) => cx.field(name, |cx| runtime_fraction(cx, message)),
        None => Some(default),
    };
    Some(RateLimiter {
        service: asked,
        domain: cx.name("domain", &domain)?,
        stage,
        slots: cx.each("rate_limits", rate_limits, own_slot).into(),
        concerns: concerns(cx, &request_type)?,
        enabled: share(cx, "filter_enabled", filter_enabled, FractionalPercent::ALWAYS)?,
        enforced: share(cx, "filter_enforced", filter_enforced, FractionalPercent::ALWAYS)?,
        denied_on_failure: share(
            cx,
            "failure_mode_deny_percent",
            failure_mode_deny_percent,
            always(failure_mode_deny),
        )?,
        status: cx.field("rate_limited_status", |cx| status_of(cx, rate_limited_status))?,
        status_on_failure: status_on_failure(cx, status_on_error)?,
        response_headers: headers(cx, "response_headers_to_add", response_headers_to_add),
        report: report(cx, enable_x_ratelimit_headers)?,
        retry_after: if enable_retry_after_header { RetryAfter::Said } else { RetryAfter::Unsaid },
        mark: if disable_x_envoy_ratelimited_header { Mark::Unsaid } else { Mark::Said },
        grpc: match rate_limited_as_resource_exhausted {
            true => GrpcRefusal::ResourceExhausted,
            false => GrpcRefusal::Unavailable,
        },
        metadata: optional(cx, &metadata_namespace).unwrap_or_else(|| METADATA.into()),
    })
}

fn who(cx: &mut Cx, message: service_pb::RateLimitServiceConfig) -> Option<tulle_config::GrpcService> {
    let service_pb::RateLimitServiceConfig { grpc_service, transport_api_version } = message;
    version(cx, transport_api_version);
    let grpc = cx.required("grpc_service", grpc_service)?;
    cx.field("grpc_service", |cx| {
        if grpc.timeout.is_some() {
            // As in Envoy: the filter's own timeout holds.
            cx.ignore("timeout");
        }
        service(cx, grpc, TIMEOUT)
    })
}

fn concerns(cx: &mut Cx, text: &str) -> Option<Concerns> {
    Some(match text {
        "" | "both" => Concerns::Both,
        "internal" => Concerns::Internal,
        "external" => Concerns::External,
        _ => {
            cx.error_at("request_type", format!("{text:?} is none of internal, external, both"));
            return None;
        }
    })
}

fn report(cx: &mut Cx, version: i32) -> Option<Report> {
    use limit_pb::rate_limit::XRateLimitHeadersRfcVersion as Version;
    Some(match cx.enumeration::<Version>("enable_x_ratelimit_headers", version)? {
        Version::Off => Report::Nothing,
        Version::DraftVersion03 => Report::XRateLimit,
    })
}

fn status_on_failure(cx: &mut Cx, message: Option<type_pb::HttpStatus>) -> Option<u16> {
    let Some(type_pb::HttpStatus { code }) = message else { return Some(500) };
    let status = u16::try_from(code).ok().filter(|status| (100..600).contains(status));
    if status.is_none() {
        cx.error_at("status_on_error", format!("{code} is not an HTTP status"));
    }
    status
}

pub fn per_route(cx: &mut Cx, message: limit_pb::RateLimitPerRoute) -> Option<FilterOverride> {
    use limit_pb::rate_limit_per_route::{OverrideOptions, VhRateLimitsOptions};
    let limit_pb::RateLimitPerRoute { vh_rate_limits, override_option, rate_limits, domain } = message;
    if OverrideOptions::try_from(override_option) != Ok(OverrideOptions::Default) {
        cx.refuse("override_option");
    }
    let host_slots = match cx.enumeration::<VhRateLimitsOptions>("vh_rate_limits", vh_rate_limits)? {
        VhRateLimitsOptions::Override => HostSlots::Override,
        VhRateLimitsOptions::Include => HostSlots::Include,
        VhRateLimitsOptions::Ignore => HostSlots::Ignore,
    };
    let slots = cx.each("rate_limits", rate_limits, own_slot).into();
    let settings = RateLimiterOverride { host_slots, slots, domain: optional(cx, &domain) };
    Some(FilterOverride::RateLimiter(settings.into()))
}
