//! What routes, virtual hosts and weighted clusters say of filters (`typed_per_filter_config`).

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::filters::http::bandwidth_limit::v3::BandwidthLimit;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3::BufferPerRoute;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthzPerRoute;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::HeaderMutationPerRoute;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::PerRouteConfig;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::on_demand::v3::PerRouteConfig as OnDemandPerRoute;
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimitPerRoute;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSessionPerRoute;
use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;
use tulle_policy::{FilterOverride, FilterOverrides};

use super::super::cx::{Cx, type_name};
use super::cors::{CORS, cors_policy, same_as_filter};
use super::fault::fault;
use super::local_rate_limit::limit;
use super::rbac::per_route;

/// One level's settings of filters.
pub struct Level {
    pub typed: HashMap<String, Any>,
    /// The deprecated field; what `typed` says of the filter comes first.
    pub cors: Option<route_pb::CorsPolicy>,
}

pub fn overrides(cx: &mut Cx, level: Level) -> FilterOverrides {
    let mut typed: Vec<(String, Any)> = level.typed.into_iter().collect();
    typed.sort_by(|left, right| left.0.cmp(&right.0));
    let mut made = Vec::with_capacity(typed.len());
    for (name, any) in typed {
        let settings = cx.field(&format!("typed_per_filter_config[{name}]"), |cx| settings(cx, &any, Unknown::Refused));
        let name = cx.intern(&name);
        made.extend(settings.map(|settings| (name, settings)));
    }
    if let Some(own) = level.cors
        && !made.iter().any(|(name, _)| &**name == CORS)
    {
        let policy = cx.field("cors", |cx| cors_policy(cx, same_as_filter(own)));
        let name = cx.intern(CORS);
        made.extend(policy.map(|policy| (name, FilterOverride::Cors(Arc::new(policy)))));
    }
    FilterOverrides::new(made)
}

/// What happens to settings of an unknown type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    LeftOut,
}

/// `None` after an error, or when the settings are left out.
fn settings(cx: &mut Cx, any: &Any, unknown: Unknown) -> Option<FilterOverride> {
    let typed = type_name(&any.type_url);
    if typed == route_pb::FilterConfig::full_name() {
        return wrapped(cx, any);
    }
    Some(if typed == RbacPerRoute::full_name() {
        let message = cx.unpack::<RbacPerRoute>(any)?;
        per_route(cx, message)?.map_or(FilterOverride::Off, |rbac| FilterOverride::Rbac(Arc::new(rbac)))
    } else if typed == HttpFault::full_name() {
        let message = cx.unpack::<HttpFault>(any)?;
        FilterOverride::Fault(Arc::new(fault(cx, message)?))
    } else if typed == CorsPolicy::full_name() {
        let message = cx.unpack::<CorsPolicy>(any)?;
        FilterOverride::Cors(Arc::new(cors_policy(cx, message)?))
    } else if typed == LocalRateLimit::full_name() {
        let message = cx.unpack::<LocalRateLimit>(any)?;
        FilterOverride::LocalRateLimit(Arc::new(limit(cx, message)?))
    } else if typed == RateLimitPerRoute::full_name() {
        let message = cx.unpack::<RateLimitPerRoute>(any)?;
        super::rate_limit::per_route(cx, message)?
    } else if typed == PerRouteConfig::full_name() {
        let message = cx.unpack::<PerRouteConfig>(any)?;
        super::jwt::per_route(cx, message)?
    } else if typed == ExtAuthzPerRoute::full_name() {
        let message = cx.unpack::<ExtAuthzPerRoute>(any)?;
        super::ext_authz::per_route(cx, message)?
    } else if typed == HeaderMutationPerRoute::full_name() {
        let message = cx.unpack::<HeaderMutationPerRoute>(any)?;
        FilterOverride::Other(Arc::new(super::header_mutation::per_route(cx, message)))
    } else if typed == BufferPerRoute::full_name() {
        let message = cx.unpack::<BufferPerRoute>(any)?;
        super::buffer::per_route(cx, message)?
    } else if typed == BandwidthLimit::full_name() {
        let message = cx.unpack::<BandwidthLimit>(any)?;
        FilterOverride::Bandwidth(Arc::new(super::bandwidth::per_route(cx, message)?))
    } else if typed == StatefulSessionPerRoute::full_name() {
        let message = cx.unpack::<StatefulSessionPerRoute>(any)?;
        super::session::per_route(cx, message)?
    } else if typed == OnDemandPerRoute::full_name() {
        let message = cx.unpack::<OnDemandPerRoute>(any)?;
        super::on_demand::per_route(cx, message)
    } else if unknown == Unknown::LeftOut {
        cx.warn(format!("the optional settings of type {typed} are not known and left out"));
        return None;
    } else {
        cx.error(format!("per-route settings of type {typed} are not supported"));
        return None;
    })
}

fn wrapped(cx: &mut Cx, any: &Any) -> Option<FilterOverride> {
    let route_pb::FilterConfig { config, is_optional, disabled } = cx.unpack::<route_pb::FilterConfig>(any)?;
    if disabled {
        return Some(FilterOverride::Off);
    }
    let Some(config) = config.filter(|config| !config.type_url.is_empty()) else {
        // It says only that the filter is on.
        return Some(FilterOverride::On);
    };
    let unknown = if is_optional { Unknown::LeftOut } else { Unknown::Refused };
    cx.field("config", |cx| {
        if type_name(&config.type_url) == route_pb::FilterConfig::full_name() {
            cx.error("may not hold another FilterConfig");
            return None;
        }
        settings(cx, &config, unknown)
    })
}
