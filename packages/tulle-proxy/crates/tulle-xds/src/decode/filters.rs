//! HTTP filters by type. An unknown filter is refused unless it is marked optional, as in Envoy.

use envoy_types::pb::envoy::extensions::filters::http::cors::v3::Cors;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm_pb;
use prost::Name as _;
use tulle_config::HttpFilter;
use tulle_config::filters::RouterOptions;

use super::common::truth;
use super::cx::{Cx, refuse, type_name, without_effect};

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
        Some(ConfigType::ConfigDiscovery(_)) => {
            cx.refuse("config_discovery");
            return None;
        }
        None => return by_name(cx, &name, is_optional),
    };
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == Router::full_name() {
            let message = cx.unpack::<Router>(&any)?;
            Some(Some(HttpFilter::Router(router(cx, message))))
        } else if typed == Cors::full_name() {
            cx.unpack::<Cors>(&any).map(|Cors {}| Some(HttpFilter::Cors))
        } else if typed == GrpcStats::full_name() {
            // The standard metrics carry gRPC statuses already.
            cx.warn("has no effect: the standard metrics count gRPC statuses");
            Some(None)
        } else if is_optional {
            cx.warn(format!("the optional filter {typed} is not known and left out"));
            Some(None)
        } else {
            cx.error(format!("the HTTP filter {typed} is not supported"));
            None
        }
    })
}

/// A filter given by name alone has its default settings. Envoy accepts this for filters that need none.
fn by_name(cx: &mut Cx, name: &str, is_optional: bool) -> Option<Option<HttpFilter>> {
    match name {
        "envoy.filters.http.router" => Some(Some(HttpFilter::Router(RouterOptions::default()))),
        "envoy.filters.http.cors" => Some(Some(HttpFilter::Cors)),
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
