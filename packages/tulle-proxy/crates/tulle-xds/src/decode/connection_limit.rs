//! `envoy.filters.network.connection_limit`: how many connections of a filter chain there may be at once.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit as LimitMessage;
use tulle_policy::gate::{ConnectionLimit, Gate};

use super::common::runtime_flag;
use super::cx::Cx;

/// `Some(None)` when it is switched off.
pub fn connection_limit(cx: &mut Cx, message: LimitMessage) -> Option<Option<ConnectionLimit>> {
    let LimitMessage { stat_prefix, max_connections, delay, runtime_enabled } = message;
    let stat_prefix = cx.name("stat_prefix", &stat_prefix)?;
    let most = cx.required("max_connections", max_connections)?.value;
    if most == 0 {
        cx.error_at("max_connections", "must be more than zero");
        return None;
    }
    let delay = cx.duration("delay", delay).unwrap_or(Duration::ZERO);
    if !runtime_flag(cx, runtime_enabled) {
        return Some(None);
    }
    Some(Some(ConnectionLimit { stat_prefix, most, delay, gate: Arc::<Gate>::default() }))
}
