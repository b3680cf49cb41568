//! The bandwidth limit.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::http::bandwidth_limit::v3 as limit_pb;
use limit_pb::bandwidth_limit::EnableMode;
use tulle_policy::bandwidth::{BandwidthLimit, SharedRate};

use super::super::common::runtime_flag;
use super::super::cx::Cx;

/// Envoy's default, and its limits.
const INTERVAL: Duration = Duration::from_millis(50);
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(1);

/// Of a route: there the limit must be given.
pub fn per_route(cx: &mut Cx, message: limit_pb::BandwidthLimit) -> Option<BandwidthLimit> {
    if message.limit_kbps.is_none() {
        cx.error_at("limit_kbps", "is required");
    }
    bandwidth(cx, message)
}

pub fn bandwidth(cx: &mut Cx, message: limit_pb::BandwidthLimit) -> Option<BandwidthLimit> {
    let limit_pb::BandwidthLimit {
        stat_prefix,
        enable_mode,
        limit_kbps,
        fill_interval,
        runtime_enabled,
        enable_response_trailers,
        response_trailer_prefix,
    } = message;
    cx.name("stat_prefix", &stat_prefix)?;
    let interval = cx.duration("fill_interval", fill_interval).unwrap_or(INTERVAL);
    if !INTERVALS.contains(&interval) {
        cx.error_at("fill_interval", "must be between 20 ms and 1 s");
    }
    let rate = match limit_kbps.map(|limit| limit.value) {
        Some(0) => {
            cx.error_at("limit_kbps", "must be more than zero");
            return None;
        }
        limit => limit.map(|kib| Arc::new(SharedRate::new(kib.saturating_mul(1024), interval))),
    };
    let (requests, responses) = match cx.enumeration::<EnableMode>("enable_mode", enable_mode)? {
        EnableMode::Disabled => (false, false),
        EnableMode::Request => (true, false),
        EnableMode::Response => (false, true),
        EnableMode::RequestAndResponse => (true, true),
    };
    let enabled = runtime_flag(cx, runtime_enabled);
    let prefix = cx.intern(&response_trailer_prefix.to_ascii_lowercase());
    Some(BandwidthLimit {
        requests,
        responses,
        rate: rate.filter(|_| enabled),
        told: enable_response_trailers.then_some(prefix),
    })
}
