//! HTTP filters by type. An unknown filter is refused unless it is marked optional, as in Envoy.

mod adaptive_concurrency;
mod cors;
mod discovered;
mod ext_authz;
mod fault;
mod grpc;
mod jwt;
mod local_rate_limit;
mod on_demand;
mod overrides;
mod rate_limit;
mod rate_slots;
mod rbac;
mod session;
mod uri;

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::adaptive_concurrency::v3::AdaptiveConcurrency;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::Cors;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig as DynamicForward;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier as Forwarding;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::on_demand::v3::OnDemand;
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSession;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm_pb;
use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;
use tulle_config::HttpFilter;
use tulle_config::filters::{Named, RouterOptions};
use tulle_core::Str;

use super::common::truth;
use super::cx::{Cx, refuse, type_name, without_effect};
use super::dns::dns_cache;

pub use cors::CORS;
pub use discovered::extension;
pub use ext_authz::connection_authorizer;
pub use overrides::{Level, overrides};
pub use rate_slots::slot;
pub use rbac::network_rbac;

/// The chain; it must end with the router and have no other router.
pub fn http_filters(cx: &mut Cx, filters: Vec<hcm_pb::HttpFilter>) -> Vec<HttpFilter> {
    let chain: Vec<HttpFilter> = cx.each("http_filters", filters, http_filter).into_iter().flatten().collect();
    let routers = chain.iter().filter(|filter| matches!(filter, HttpFilter::Router(_))).count();
    if routers != 1 || !matches!(chain.last(), Some(HttpFilter::Router(_))) {
        cx.error_at("http_filters", "must end with envoy.filters.http.router, and have it once");
    }
    chain
}

/// `Some(None)` for an optional filter that is left out.
fn http_filter(cx: &mut Cx, message: hcm_pb::HttpFilter) -> Option<Option<HttpFilter>> {
    use hcm_pb::http_filter::ConfigType;
    let hcm_pb::HttpFilter { name, is_optional, disabled, config_type } = message;
    refuse!(cx; disabled);
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(source)) => {
            let name = cx.name("name", &name)?;
            return cx.field("config_discovery", |cx| discovered::discovered(cx, name, source)).map(Some);
        }
        None => return by_name(cx, &name, is_optional),
    };
    let name = cx.name("name", &name)?;
    cx.field("typed_config", |cx| match known(cx, name, &any) {
        Known::Filter(filter) => filter.map(Some),
        Known::Elsewhere | Known::Off => Some(None),
        Known::WithoutEffect => {
            // The standard metrics carry gRPC statuses already.
            cx.warn("has no effect: the standard metrics count gRPC statuses");
            Some(None)
        }
        Known::No if is_optional => {
            cx.warn(format!("the optional filter {} is not known and left out", type_name(&any.type_url)));
            Some(None)
        }
        Known::No => {
            cx.error(format!("the HTTP filter {} is not supported", type_name(&any.type_url)));
            None
        }
    })
}

/// What a filter's type is to this proxy.
enum Known {
    /// Decoded, unless an error was reported.
    Filter(Option<HttpFilter>),
    WithoutEffect,
    /// What it asks for is done without a filter.
    Elsewhere,
    /// Configured, and switched off there.
    Off,
    No,
}

fn known(cx: &mut Cx, name: Str, any: &Any) -> Known {
    let typed = type_name(&any.type_url);
    Known::Filter(if typed == Router::full_name() {
        cx.unpack::<Router>(any).map(|message| HttpFilter::Router(router(cx, message)))
    } else if typed == Cors::full_name() {
        cx.unpack::<Cors>(any).map(|Cors {}| HttpFilter::Cors(name))
    } else if typed == Rbac::full_name() {
        let settings = cx.unpack::<Rbac>(any).and_then(|message| rbac::http_rbac(cx, message));
        settings.map(|settings| HttpFilter::Rbac(Named { name, settings: Arc::new(settings) }))
    } else if typed == HttpFault::full_name() {
        let settings = cx.unpack::<HttpFault>(any).and_then(|message| fault::fault(cx, message));
        settings.map(|settings| HttpFilter::Fault(Named { name, settings: Arc::new(settings) }))
    } else if typed == LocalRateLimit::full_name() {
        let settings = cx.unpack::<LocalRateLimit>(any).and_then(|message| local_rate_limit::limit(cx, message));
        settings.map(|settings| HttpFilter::LocalRateLimit(Named { name, settings: Arc::new(settings) }))
    } else if typed == RateLimit::full_name() {
        let settings = cx.unpack::<RateLimit>(any).and_then(|message| rate_limit::rate_limiter(cx, message));
        settings.map(|settings| HttpFilter::RateLimiter(Named { name, settings: Arc::new(settings) }))
    } else if typed == DynamicForward::full_name() {
        // Hosts are looked up where a request is routed to such a cluster; the filter only has to be sensible.
        if let Some(message) = cx.unpack::<DynamicForward>(any) {
            dynamic_forward(cx, message);
        }
        return Known::Elsewhere;
    } else if typed == JwtAuthentication::full_name() {
        let settings = cx.unpack::<JwtAuthentication>(any).and_then(|message| jwt::token_filter(cx, message));
        settings.map(|settings| HttpFilter::Tokens(Named { name, settings: Arc::new(settings) }))
    } else if typed == ExtAuthz::full_name() {
        let settings = cx.unpack::<ExtAuthz>(any).and_then(|message| ext_authz::authorizer(cx, message));
        settings.map(|settings| HttpFilter::Authorizer(Named { name, settings: Arc::new(settings) }))
    } else if typed == AdaptiveConcurrency::full_name() {
        let message = cx.unpack::<AdaptiveConcurrency>(any);
        match message.and_then(|message| adaptive_concurrency::adaptive_concurrency(cx, message)) {
            Some(None) => return Known::Off,
            settings => settings
                .flatten()
                .map(|settings| HttpFilter::AdaptiveConcurrency(Named { name, settings: Arc::new(settings) })),
        }
    } else if typed == StatefulSession::full_name() {
        let settings = cx.unpack::<StatefulSession>(any).and_then(|message| session::session(cx, message));
        settings.map(|settings| HttpFilter::Session(Named { name, settings: Arc::new(settings) }))
    } else if typed == OnDemand::full_name() {
        let settings = cx.unpack::<OnDemand>(any).map(|message| on_demand::on_demand(cx, message));
        settings.map(|settings| HttpFilter::OnDemand(Named { name, settings: Arc::new(settings) }))
    } else if typed == GrpcStats::full_name() {
        return Known::WithoutEffect;
    } else {
        return Known::No;
    })
}

/// A filter given by name alone has its default settings. Envoy accepts this for filters that need none.
fn by_name(cx: &mut Cx, name: &str, is_optional: bool) -> Option<Option<HttpFilter>> {
    match name {
        "envoy.filters.http.router" => Some(Some(HttpFilter::Router(RouterOptions::default()))),
        CORS => Some(Some(HttpFilter::Cors(cx.intern(name)))),
        _ if is_optional => {
            cx.warn(format!("the optional filter {name:?} is not known and left out"));
            Some(None)
        }
        _ => {
            cx.error(format!("the HTTP filter {name:?} is not supported"));
            None
        }
    }
}

fn dynamic_forward(cx: &mut Cx, message: DynamicForward) {
    let DynamicForward { save_upstream_address: _, allow_dynamic_host_from_filter_state, implementation_specifier } =
        message;
    refuse!(cx; allow_dynamic_host_from_filter_state);
    match implementation_specifier {
        Some(Forwarding::DnsCacheConfig(cache)) => cx.field("dns_cache_config", |cx| dns_cache(cx, cache)),
        Some(Forwarding::SubClusterConfig(_)) => cx.refuse("sub_cluster_config"),
        None => cx.error_at("dns_cache_config", "is required"),
    }
}

fn router(cx: &mut Cx, message: Router) -> RouterOptions {
    let Router {
        dynamic_stats,
        start_child_span,
        upstream_log,
        upstream_log_options,
        suppress_envoy_headers,
        strict_check_headers,
        respect_expected_rq_timeout,
        suppress_grpc_request_failure_code_stats,
        upstream_http_filters,
        reject_connect_request_early_data,
    } = message;
    refuse!(cx; upstream_log, upstream_http_filters);
    without_effect!(cx; upstream_log_options, suppress_grpc_request_failure_code_stats, reject_connect_request_early_data);
    let _ = truth(dynamic_stats, true);
    RouterOptions {
        suppress_envoy_headers,
        start_child_span,
        strict_check_headers: super::address::lower_case(cx, strict_check_headers),
        respect_expected_rq_timeout,
    }
}
