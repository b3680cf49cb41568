//! Discovery on demand: for how long a request waits for its cluster.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::http::on_demand::v3 as demand_pb;
use tulle_config::filters::OnDemand;
use tulle_policy::FilterOverride;

use super::super::cx::{Cx, refuse};
use super::super::source::require_ads;

/// Envoy's default.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn on_demand(cx: &mut Cx, message: demand_pb::OnDemand) -> OnDemand {
    // Without `odcds` it is for virtual hosts on demand, which are refused where they are configured.
    let demand_pb::OnDemand { odcds } = message;
    OnDemand { patience: patience(cx, odcds) }
}

pub fn per_route(cx: &mut Cx, message: demand_pb::PerRouteConfig) -> FilterOverride {
    let demand_pb::PerRouteConfig { odcds } = message;
    FilterOverride::OnDemand(patience(cx, odcds))
}

fn patience(cx: &mut Cx, odcds: Option<demand_pb::OnDemandCds>) -> Option<Duration> {
    let demand_pb::OnDemandCds { source, resources_locator, timeout } = odcds?;
    cx.field("odcds", |cx| {
        refuse!(cx; resources_locator);
        require_ads(cx, "source", source);
        Some(cx.duration("timeout", timeout).unwrap_or(PATIENCE))
    })
}
