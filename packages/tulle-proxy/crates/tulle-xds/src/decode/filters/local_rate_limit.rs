//! The local rate limit, with descriptors made by the filter's own `rate_limits`.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3 as common_pb;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as limit_pb;
use envoy_types::pb::envoy::r#type::v3 as type_pb;
use tulle_core::{FractionalPercent, Str};
use tulle_policy::descriptors::HostSlots;
use tulle_policy::local_rate_limit::{
    Buckets, ByValue, DefaultBucket, DescriptorLimit, Enforcement, GrpcRefusal, LocalRateLimit, Report, RetryAfter,
};
use tulle_policy::{SharedBucket, TokenBucketConfig};

use super::super::common::{optional, runtime_fraction, truth, uint};
use super::super::cx::{Cx, refuse, without_effect};
use super::rate_slots::own_slot;

pub fn limit(cx: &mut Cx, message: limit_pb::LocalRateLimit) -> Option<LocalRateLimit> {
    let limit_pb::LocalRateLimit {
        stat_prefix,
        status,
        token_bucket,
        filter_enabled,
        filter_enforced,
        request_headers_to_add_when_not_enforced,
        response_headers_to_add,
        descriptors,
        stage,
        local_rate_limit_per_downstream_connection,
        local_cluster_rate_limit,
        enable_x_ratelimit_headers,
        vh_rate_limits,
        always_consume_default_token_bucket,
        rate_limited_as_resource_exhausted,
        rate_limits,
        max_dynamic_descriptors,
        enable_retry_after_header,
    } = message;
    refuse!(cx; local_rate_limit_per_downstream_connection, local_cluster_rate_limit);
    // Envoy's default for how many values of a wildcard have a bucket.
    let most = uint(max_dynamic_descriptors).unwrap_or(20) as usize;
    cx.name("stat_prefix", &stat_prefix)?;
    let report = match cx.enumeration::<common_pb::XRateLimitHeadersRfcVersion>(
        "enable_x_ratelimit_headers",
        enable_x_ratelimit_headers,
    )? {
        common_pb::XRateLimitHeadersRfcVersion::Off => Report::Nothing,
        common_pb::XRateLimitHeadersRfcVersion::DraftVersion03 => Report::XRateLimit,
    };
    Some(LocalRateLimit {
        status: cx.field("status", |cx| status_of(cx, status))?,
        bucket: match token_bucket {
            Some(bucket) => Some(SharedBucket::new(cx.field("token_bucket", |cx| bucket_config(cx, bucket))?)),
            None => None,
        },
        default_bucket: match truth(always_consume_default_token_bucket, true) {
            true => DefaultBucket::Always,
            false => DefaultBucket::WithoutDescriptor,
        },
        enabled: share(cx, "filter_enabled", filter_enabled)?,
        enforced: share(cx, "filter_enforced", filter_enforced)?,
        descriptors: cx.each("descriptors", descriptors, |cx, one| descriptor(cx, one, most)).into(),
        slots: cx.each("rate_limits", rate_limits, own_slot).into(),
        stage,
        host_slots: match cx.enumeration::<common_pb::VhRateLimitsOptions>("vh_rate_limits", vh_rate_limits)? {
            common_pb::VhRateLimitsOptions::Override => HostSlots::Override,
            common_pb::VhRateLimitsOptions::Include => HostSlots::Include,
            common_pb::VhRateLimitsOptions::Ignore => HostSlots::Ignore,
        },
        response_headers: headers(cx, "response_headers_to_add", response_headers_to_add),
        request_headers: headers(
            cx,
            "request_headers_to_add_when_not_enforced",
            request_headers_to_add_when_not_enforced,
        ),
        report,
        retry_after: if enable_retry_after_header { RetryAfter::Said } else { RetryAfter::Unsaid },
        grpc: match rate_limited_as_resource_exhausted {
            true => GrpcRefusal::ResourceExhausted,
            false => GrpcRefusal::Unavailable,
        },
    })
}

/// 429 unless an error status is given: Envoy takes anything below 400 for a mistake.
pub fn status_of(cx: &mut Cx, message: Option<type_pb::HttpStatus>) -> Option<u16> {
    match message.map(|status| status.code) {
        None => Some(429),
        Some(code @ 100..400) => {
            cx.warn(format!("{code} is no error; 429 is used"));
            Some(429)
        }
        Some(code @ 400..600) => u16::try_from(code).ok(),
        Some(code) => {
            cx.error(format!("{code} is not an HTTP status"));
            None
        }
    }
}

/// An absent share is none, as in Envoy.
fn share(cx: &mut Cx, name: &str, message: Option<core_pb::RuntimeFractionalPercent>) -> Option<FractionalPercent> {
    match message {
        Some(message) => cx.field(name, |cx| runtime_fraction(cx, message)),
        None => Some(FractionalPercent::NEVER),
    }
}

fn bucket_config(cx: &mut Cx, message: type_pb::TokenBucket) -> Option<TokenBucketConfig> {
    let type_pb::TokenBucket { max_tokens, tokens_per_fill, fill_interval } = message;
    if max_tokens == 0 {
        cx.error_at("max_tokens", "must be more than zero");
    }
    let fill_interval = cx.required("fill_interval", fill_interval)?;
    let fill_interval = cx.duration("fill_interval", Some(fill_interval))?;
    if fill_interval.as_millis() < 50 {
        cx.error_at("fill_interval", "must be at least 50 ms");
    }
    let tokens_per_fill = uint(tokens_per_fill).unwrap_or(1);
    if tokens_per_fill == 0 {
        cx.error_at("tokens_per_fill", "must be more than zero");
    }
    Some(TokenBucketConfig { max_tokens, tokens_per_fill, fill_interval })
}

pub fn headers(cx: &mut Cx, name: &str, list: Vec<core_pb::HeaderValueOption>) -> Box<[(Str, Str)]> {
    let made = cx.each(name, list, |cx, option| {
        let core_pb::HeaderValueOption { header, append, append_action, keep_empty_value } = option;
        without_effect!(cx; append, append_action, keep_empty_value);
        let core_pb::HeaderValue { key, value, raw_value } = cx.required("header", header)?;
        refuse!(cx; raw_value);
        let name = cx.name("header.key", &key.to_ascii_lowercase())?;
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !name.bytes().all(valid)
            || value.bytes().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
            || value.contains('%')
        {
            cx.error_at("header", "must be a plain header without substitutions");
            return None;
        }
        Some((name, cx.intern(&value)))
    });
    made.into()
}

fn descriptor(cx: &mut Cx, message: common_pb::LocalRateLimitDescriptor, most: usize) -> Option<DescriptorLimit> {
    let common_pb::LocalRateLimitDescriptor { entries, token_bucket, shadow_mode } = message;
    if entries.is_empty() {
        cx.error_at("entries", "must not be empty");
        return None;
    }
    let entries = cx.each("entries", entries, |cx, entry| {
        let common_pb::rate_limit_descriptor::Entry { key, value } = entry;
        Some((cx.name("key", &key)?, optional(cx, &value)))
    });
    let bucket = cx.required("token_bucket", token_bucket)?;
    let bucket = cx.field("token_bucket", |cx| bucket_config(cx, bucket))?;
    let wildcard = entries.iter().any(|(_, value)| value.is_none());
    Some(DescriptorLimit {
        entries: entries.into(),
        buckets: if wildcard {
            Buckets::ByValue(ByValue::new(bucket, most))
        } else {
            Buckets::One(SharedBucket::new(bucket))
        },
        enforcement: if shadow_mode { Enforcement::Shadow } else { Enforcement::Enforced },
    })
}
