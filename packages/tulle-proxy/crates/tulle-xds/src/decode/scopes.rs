//! Scoped routes: how a request's key is made, and the scopes themselves.

use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm_pb;
use hcm_pb::scoped_routes as scoped_pb;
use route_pb::scoped_route_configuration as scope_pb;
use tulle_config::Patience;
use tulle_config::hcm::{ScopeSource, ScopedRoutes};
use tulle_route::scopes::{Fragment, Pick, Scope, ScopeKey, ScopeKeyBuilder, ScopeRoutes, Scopes};

use super::cx::{Cx, refuse, without_effect};
use super::route::route_config;
use super::source::require_ads;

pub fn scoped_routes(cx: &mut Cx, message: hcm_pb::ScopedRoutes) -> Option<ScopedRoutes> {
    use scoped_pb::ConfigSpecifier as Specifier;
    let hcm_pb::ScopedRoutes { name, scope_key_builder, rds_config_source, config_specifier } = message;
    cx.name("name", &name)?;
    let builder = cx.required("scope_key_builder", scope_key_builder)?;
    let builder = cx.field("scope_key_builder", |cx| key_builder(cx, builder))?;
    let scopes = match cx.required("config_specifier", config_specifier)? {
        Specifier::ScopedRouteConfigurationsList(list) => cx.field("scoped_route_configurations_list", |cx| {
            let scopes = cx.each("scoped_route_configurations", list.scoped_route_configurations, scope);
            inline(cx, scopes)
        }),
        Specifier::ScopedRds(scoped) => cx.field("scoped_rds", |cx| {
            let hcm_pb::ScopedRds { scoped_rds_config_source, srds_resources_locator } = scoped;
            refuse!(cx; srds_resources_locator);
            Some(ScopeSource::Srds(require_ads(cx, "scoped_rds_config_source", scoped_rds_config_source)))
        }),
    }?;
    let names_routes = match &scopes {
        ScopeSource::Inline(scopes) => scopes.named().next().is_some(),
        ScopeSource::Srds(_) => true,
    };
    let patience = match names_routes {
        true => require_ads(cx, "rds_config_source", rds_config_source),
        false => Patience::NONE,
    };
    Some(ScopedRoutes { builder, scopes, patience })
}

fn inline(cx: &mut Cx, scopes: Vec<Scope>) -> Option<ScopeSource> {
    match Scopes::new(scopes.into_iter().map(Arc::new)) {
        Ok(scopes) => Some(ScopeSource::Inline(Arc::new(scopes))),
        Err((first, second)) => {
            cx.error(format!("{first:?} and {second:?} have the same key"));
            None
        }
    }
}

fn key_builder(cx: &mut Cx, message: scoped_pb::ScopeKeyBuilder) -> Option<ScopeKeyBuilder> {
    let wanted = message.fragments.len();
    let fragments = cx.each("fragments", message.fragments, |cx, fragment| {
        use scoped_pb::scope_key_builder::fragment_builder::Type;
        let Type::HeaderValueExtractor(extractor) = cx.required("type", fragment.r#type)?;
        cx.field("header_value_extractor", |cx| self::fragment(cx, extractor))
    });
    if wanted == 0 {
        cx.error_at("fragments", "must not be empty");
    }
    (fragments.len() == wanted).then(|| ScopeKeyBuilder { fragments: fragments.into() })
}

fn fragment(
    cx: &mut Cx,
    message: scoped_pb::scope_key_builder::fragment_builder::HeaderValueExtractor,
) -> Option<Fragment> {
    use scoped_pb::scope_key_builder::fragment_builder::HeaderValueExtractor;
    use scoped_pb::scope_key_builder::fragment_builder::header_value_extractor::{ExtractType, KvElement};
    let HeaderValueExtractor { name, element_separator, extract_type } = message;
    let pick = match cx.required("extract_type", extract_type)? {
        ExtractType::Index(place) if place > 0 && element_separator.is_empty() => {
            cx.error_at("index", "must be 0 without an element_separator");
            return None;
        }
        ExtractType::Index(place) => Pick::Index(place as usize),
        ExtractType::Element(KvElement { separator, key }) => cx.field("element", |cx| {
            Some(Pick::Value { separator: cx.name("separator", &separator)?, key: cx.name("key", &key)? })
        })?,
    };
    let header = cx.name("name", &name.to_ascii_lowercase())?;
    Some(Fragment { header, separator: cx.intern(&element_separator), pick })
}

pub fn scope(cx: &mut Cx, message: route_pb::ScopedRouteConfiguration) -> Option<Scope> {
    let route_pb::ScopedRouteConfiguration { on_demand, name, route_configuration_name, route_configuration, key } =
        message;
    // Its routes are fetched as soon as they are known of.
    without_effect!(cx; on_demand);
    let name = cx.name("name", &name)?;
    let key = cx.required("key", key)?;
    let key = cx.field("key", |cx| scope_key(cx, key))?;
    let routes = match (route_configuration, route_configuration_name.is_empty()) {
        (Some(_), false) => {
            cx.error_at("route_configuration", "cannot stand beside route_configuration_name");
            return None;
        }
        (Some(inline), true) => {
            let config = cx.field("route_configuration", |cx| route_config(cx, inline))?;
            ScopeRoutes::Inline(Arc::new(config))
        }
        (None, _) => ScopeRoutes::Named(cx.name("route_configuration_name", &route_configuration_name)?),
    };
    Some(Scope { name, key, routes })
}

fn scope_key(cx: &mut Cx, message: scope_pb::Key) -> Option<ScopeKey> {
    use scope_pb::key::fragment::Type;
    let wanted = message.fragments.len();
    let values = cx.each("fragments", message.fragments, |cx, fragment| {
        let Type::StringKey(text) = cx.required("type", fragment.r#type)?;
        Some(cx.intern(&text))
    });
    if wanted == 0 {
        cx.error_at("fragments", "must not be empty");
    }
    (values.len() == wanted && wanted > 0).then(|| values.into())
}
