//! The fault filter.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as common_pb;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as fault_pb;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent as FractionalPercentPb;
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
    // There is no runtime, and nothing reads the metadata.
    without_effect!(cx; delay_percent_runtime, abort_percent_runtime, delay_duration_runtime, abort_http_status_runtime,
        max_active_faults_runtime, response_rate_limit_percent_runtime, abort_grpc_status_runtime, filter_metadata);
    let _ = disable_downstream_cluster_stats;
    let delay = match wait {
        Some(wait) => Some(cx.field("delay", |cx| delay(cx, wait))?),
        None => None,
    };
    let abort = match refusal {
        Some(refusal) => Some(cx.field("abort", |cx| abort(cx, refusal))?),
        None => None,
    };
    let throughput = match response_rate_limit {
        Some(limit) => Some(cx.field("response_rate_limit", |cx| throughput(cx, limit))?),
        None => None,
    };
    Some(Fault {
        delay,
        abort,
        throughput,
        max_active: uint(max_active_faults).map(|most| Arc::new(ActiveLimit::new(most))),
        upstream_cluster: optional(cx, &upstream_cluster),
        headers: cx.each("headers", headers, header_matcher).into(),
        downstream_nodes: downstream_nodes.iter().map(|node| cx.intern(node)).collect(),
    })
}

/// An absent percentage is none, as in Envoy.
fn share(cx: &mut Cx, message: Option<FractionalPercentPb>) -> Option<Share> {
    match message {
        Some(message) => cx.field("percentage", |cx| {
            Some(Share { denominator: denominator(cx, message.denominator)?, most: fraction(cx, message)? })
        }),
        None => Some(FractionalPercent::NEVER.into()),
    }
}

fn delay(cx: &mut Cx, message: common_pb::FaultDelay) -> Option<Delay> {
    use common_pb::fault_delay::FaultDelaySecifier as Specifier;
    let common_pb::FaultDelay { percentage, fault_delay_secifier } = message;
    let length = match cx.required("fault_delay_secifier", fault_delay_secifier)? {
        Specifier::FixedDelay(length) => {
            let length = cx.duration("fixed_delay", Some(length))?;
            if length.is_zero() {
                cx.error_at("fixed_delay", "must be more than zero");
                return None;
            }
            DelayLength::Fixed(length)
        }
        Specifier::HeaderDelay(_) => DelayLength::ByHeader,
    };
    Some(Delay { length, share: share(cx, percentage)? })
}

fn throughput(cx: &mut Cx, message: common_pb::FaultRateLimit) -> Option<Throughput> {
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
    Some(Throughput { fixed, share: share(cx, percentage)? })
}

fn abort(cx: &mut Cx, message: fault_pb::FaultAbort) -> Option<Abort> {
    use fault_pb::fault_abort::ErrorType;
    let fault_pb::FaultAbort { percentage, response_body, error_type } = message;
    let with = match cx.required("error_type", error_type)? {
        ErrorType::HttpStatus(status) => {
            match u16::try_from(status).ok().filter(|status| (200..600).contains(status)) {
                Some(status) => AbortWith::Http(status),
                None => {
                    cx.error_at("http_status", format!("{status} is not between 200 and 599"));
                    return None;
                }
            }
        }
        ErrorType::GrpcStatus(status) => AbortWith::Grpc(status),
        ErrorType::HeaderAbort(_) => AbortWith::ByHeader,
    };
    Some(Abort { with, share: share(cx, percentage)?, body: optional(cx, &response_body) })
}
