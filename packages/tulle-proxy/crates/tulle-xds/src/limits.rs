//! Envoy's rate-limit protocol (`envoy.service.ratelimit.v3`): what a service is asked to count, and what it answers, as
//! bytes of one gRPC message.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3 as common_pb;
use envoy_types::pb::envoy::service::ratelimit::v3 as limit_pb;
use envoy_types::pb::envoy::r#type::v3 as type_pb;
use envoy_types::pb::google::protobuf::UInt64Value;
use limit_pb::rate_limit_response as response_pb;
use tulle_core::metadata::Struct;
use tulle_policy::descriptors::{Descriptor, LimitOverride};
use tulle_policy::remote_limit::{Limit, Standing};

use crate::decode::common::struct_to_map;
use crate::grpc::{field, framed, unframed};

/// The call's method.
pub const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What is answered.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub over: bool,
    pub standings: Vec<Standing>,
    pub response_headers: Vec<(String, Vec<u8>)>,
    pub request_headers: Vec<(String, Vec<u8>)>,
    /// Of a refusal.
    pub body: Vec<u8>,
    pub metadata: Option<Struct>,
}

/// One length-prefixed gRPC message.
pub fn ask(domain: &str, descriptors: &[Descriptor<'_>]) -> Bytes {
    use common_pb::rate_limit_descriptor::Entry;
    let entry = |(key, value): &(&str, std::borrow::Cow<'_, [u8]>)| Entry {
        key: (*key).to_owned(),
        value: String::from_utf8_lossy(value).into_owned(),
    };
    let descriptors = descriptors.iter().map(|descriptor| common_pb::RateLimitDescriptor {
        entries: descriptor.entries.iter().map(entry).collect(),
        limit: descriptor.limit.and_then(limit),
        hits_addend: descriptor.hits.map(|value| UInt64Value { value: value.into() }),
        is_negative_hits: false,
    });
    framed(&limit_pb::RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: descriptors.collect(),
        hits_addend: 0,
    })
}

/// An override whose unit is none is left out, as in Envoy.
fn limit(limit: LimitOverride<'_>) -> Option<common_pb::rate_limit_descriptor::RateLimitOverride> {
    let unit = type_pb::RateLimitUnit::from_str_name(limit.unit)?;
    let requests_per_unit = limit.requests;
    Some(common_pb::rate_limit_descriptor::RateLimitOverride { requests_per_unit, unit: unit.into() })
}

/// Reads the answer's one message; `None` when it is none, does not decide, or says what no header can be.
pub fn answered(bytes: &[u8]) -> Option<Answer> {
    let response: limit_pb::RateLimitResponse = unframed(bytes)?;
    let over = match response_pb::Code::try_from(response.overall_code).ok()? {
        response_pb::Code::Unknown => return None,
        response_pb::Code::Ok => false,
        response_pb::Code::OverLimit => true,
    };
    let fields = |list: Vec<_>| list.into_iter().map(field).collect::<Option<Vec<_>>>();
    Some(Answer {
        over,
        standings: response.statuses.into_iter().map(standing).collect(),
        response_headers: fields(response.response_headers_to_add)?,
        request_headers: fields(response.request_headers_to_add)?,
        body: response.raw_body,
        metadata: response.dynamic_metadata.filter(|found| !found.fields.is_empty()).map(struct_to_map),
    })
}

fn standing(status: response_pb::DescriptorStatus) -> Standing {
    let reset = status.duration_until_reset.map_or(0, |reset| u64::try_from(reset.seconds).unwrap_or(0));
    Standing {
        over: status.code == response_pb::Code::OverLimit as i32,
        limit: status.current_limit.map(|limit| Limit {
            requests: limit.requests_per_unit,
            window: window(limit.unit),
            name: limit.name,
        }),
        remaining: status.limit_remaining,
        reset: Duration::from_secs(reset),
    }
}

fn window(unit: i32) -> Option<Duration> {
    use response_pb::rate_limit::Unit;
    const DAY: u64 = 24 * 60 * 60;
    let seconds = match Unit::try_from(unit).ok()? {
        Unit::Unknown => return None,
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 60 * 60,
        Unit::Day => DAY,
        Unit::Week => 7 * DAY,
        Unit::Month => 30 * DAY,
        Unit::Year => 365 * DAY,
    };
    Some(Duration::from_secs(seconds))
}
