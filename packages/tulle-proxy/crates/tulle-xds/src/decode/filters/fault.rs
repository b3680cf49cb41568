//! The fault filter.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as common_pb;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as fault_pb;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent as FractionalPercentPb;
use tulle_config::Runtime;
use tulle_core::FractionalPercent;
use tulle_policy::Fault;
use tulle_policy::fault::{Abort, AbortWith, ActiveLimit, Delay, DelayLength, Share, Throughput};

use super::super::common::{denominator, fraction, optional, uint};
use super::super::cx::{Cx, without_effect};
use super::super::matchers::header_matcher;

pub fn fault(cx: &mut Cx, message: fault_pb::HttpFault) -> Option<Fault> {
    let fault_pb::HttpFault {
        delay: wait,
        abort: refusal,
        upstream_cluster,
        headers,
        downstream_nodes,
        max_active_faults,
        response_rate_limit,
        delay_percent_runtime,
        abort_percent_runtime,
        delay_duration_runtime,
        abort_http_status_runtime,
        max_active_faults_runtime,
        response_rate_limit_percent_runtime,
        abort_grpc_status_runtime,
        disable_downstream_cluster_stats,
        filter_metadata,
    } = message;
    // Nothing reads the metadata.
    without_effect!(cx; filter_metadata);
    let _ = disable_downstream_cluster_stats;
    let keys = Keys {
        delay_share: named(delay_percent_runtime, "fault.http.delay.fixed_delay_percent"),
        delay: named(delay_duration_runtime, "fault.http.delay.fixed_duration_ms"),
        abort_share: named(abort_percent_runtime, "fault.http.abort.abort_percent"),
        http_status: named(abort_http_status_runtime, "fault.http.abort.http_status"),
        grpc_status: named(abort_grpc_status_runtime, "fault.http.abort.grpc_status"),
        throughput_share: named(response_rate_limit_percent_runtime, "fault.http.rate_limit.response_percent"),
        most: named(max_active_faults_runtime, "fault.http.max_active_faults"),
    };
    let most = cx.runtime(&keys.most, small).or(uint(max_active_faults));
    let delay = match wait {
        Some(wait) => Some(cx.field("delay", |cx| delay(cx, wait, &keys))?),
        None => None,
    };
    let abort = match refusal {
        Some(refusal) => Some(cx.field("abort", |cx| abort(cx, refusal, &keys))?),
        None => None,
    };
    let throughput = match response_rate_limit {
        Some(limit) => Some(cx.field("response_rate_limit", |cx| throughput(cx, limit, &keys))?),
        None => None,
    };
    Some(Fault {
        delay,
        abort,
        throughput,
        max_active: most.map(|most| Arc::new(ActiveLimit::new(most))),
        upstream_cluster: optional(cx, &upstream_cluster),
        headers: cx.each("headers", headers, header_matcher).into(),
        downstream_nodes: downstream_nodes.iter().map(|node| cx.intern(node)).collect(),
    })
}

/// The runtime's keys, by Envoy's names where no others are given.
struct Keys {
    delay_share: String,
    delay: String,
    abort_share: String,
    http_status: String,
    grpc_status: String,
    throughput_share: String,
    most: String,
}

fn named(given: String, default: &str) -> String {
    if given.is_empty() { default.to_owned() } else { given }
}

fn small(runtime: &Runtime, key: &str) -> Option<u32> {
    runtime.integer(key)?.try_into().ok()
}

/// An absent percentage is none, as in Envoy.
fn share(cx: &mut Cx, message: Option<FractionalPercentPb>, key: &str) -> Option<Share> {
    if let Some(most) = cx.runtime(key, Runtime::fraction) {
        return Some(most.into());
    }
    match message {
        Some(message) => cx.field("percentage", |cx| {
            Some(Share { denominator: denominator(cx, message.denominator)?, most: fraction(cx, message)? })
        }),
        None => Some(FractionalPercent::NEVER.into()),
    }
}

fn delay(cx: &mut Cx, message: common_pb::FaultDelay, keys: &Keys) -> Option<Delay> {
    use common_pb::fault_delay::FaultDelaySecifier as Specifier;
    let common_pb::FaultDelay { percentage, fault_delay_secifier } = message;
    let length = match cx.required("fault_delay_secifier", fault_delay_secifier)? {
        Specifier::FixedDelay(length) => {
            let length = cx.duration("fixed_delay", Some(length))?;
            if length.is_zero() {
                cx.error_at("fixed_delay", "must be more than zero");
                return None;
            }
            let overridden = cx.runtime(&keys.delay, Runtime::integer);
            DelayLength::Fixed(overridden.map_or(length, Duration::from_millis))
        }
        Specifier::HeaderDelay(_) => DelayLength::ByHeader,
    };
    Some(Delay { length, share: share(cx, percentage, &keys.delay_share)? })
}

fn throughput(cx: &mut Cx, message: common_pb::FaultRateLimit, keys: &Keys) -> Option<Throughput> {
    use common_pb::fault_rate_limit::{FixedLimit, LimitType};
    let common_pb::FaultRateLimit { percentage, limit_type } = message;
    let fixed = match cx.required("limit_type", limit_type)? {
        LimitType::FixedLimit(FixedLimit { limit_kbps }) => {
            if limit_kbps == 0 {
                cx.error_at("fixed_limit.limit_kbps", "must be more than zero");
            }
            Some(limit_kbps)
        }
        LimitType::HeaderLimit(_) => None,
    };
    Some(Throughput { fixed, share: share(cx, percentage, &keys.throughput_share)? })
}

fn abort(cx: &mut Cx, message: fault_pb::FaultAbort, keys: &Keys) -> Option<Abort> {
    use fault_pb::fault_abort::ErrorType;
    let fault_pb::FaultAbort { percentage, response_body, error_type } = message;
    let with = match cx.required("error_type", error_type)? {
        ErrorType::HttpStatus(status) => {
            let status = cx.runtime(&keys.http_status, small).unwrap_or(status);
            match u16::try_from(status).ok().filter(|status| (200..600).contains(status)) {
                Some(status) => AbortWith::Http(status),
                None => {
                    cx.error_at("http_status", format!("{status} is not between 200 and 599"));
                    return None;
                }
            }
        }
        ErrorType::GrpcStatus(status) => AbortWith::Grpc(cx.runtime(&keys.grpc_status, small).unwrap_or(status)),
        ErrorType::HeaderAbort(_) => AbortWith::ByHeader,
    };
    Some(Abort { with, share: share(cx, percentage, &keys.abort_share)?, body: optional(cx, &response_body) })
}
