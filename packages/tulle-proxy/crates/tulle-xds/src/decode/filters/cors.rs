//! Cross-origin policies, from the filter's own message or from the deprecated field of routes and virtual hosts.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as cors_pb;
use tulle_core::FractionalPercent;
use tulle_policy::CorsPolicy;
use tulle_policy::cors::Preflights;

use super::super::common::runtime_fraction;
use super::super::cx::{Cx, without_effect};
use super::super::matchers::string_matcher;

/// The filter's canonical name, under which the deprecated field is kept.
pub const CORS: &str = "envoy.filters.http.cors";

/// The deprecated route field has the same fields as the filter's own message.
pub fn same_as_filter(own: route_pb::CorsPolicy) -> cors_pb::CorsPolicy {
    use route_pb::cors_policy::EnabledSpecifier;
    let route_pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
        enabled_specifier,
    } = own;
    cors_pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled: enabled_specifier
            .map(|EnabledSpecifier::FilterEnabled(enabled)| -> core_pb::RuntimeFractionalPercent { enabled }),
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    }
}

pub fn cors_policy(cx: &mut Cx, message: cors_pb::CorsPolicy) -> Option<CorsPolicy> {
    let cors_pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    } = message;
    without_effect!(cx; shadow_enabled);
    Some(CorsPolicy {
        enabled: match filter_enabled {
            Some(enabled) => cx.field("filter_enabled", |cx| runtime_fraction(cx, enabled))?,
            None => FractionalPercent::ALWAYS,
        },
        origins: cx.each("allow_origin_string_match", allow_origin_string_match, string_matcher).into(),
        allow_methods: cx.intern(&allow_methods),
        allow_headers: cx.intern(&allow_headers),
        expose_headers: cx.intern(&expose_headers),
        max_age: cx.intern(&max_age),
        allow_credentials: allow_credentials.map(|wrapped| wrapped.value),
        allow_private_network: allow_private_network_access.map(|wrapped| wrapped.value),
        preflights: forward_not_matching_preflights
            .map(|wrapped| if wrapped.value { Preflights::Forward } else { Preflights::Answer }),
    })
}
