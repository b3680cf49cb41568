//! Filters whose settings are resources of their own (ECDS): where the chain names them, and the resources.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::google::protobuf::Any;
use tulle_config::HttpFilter;
use tulle_config::filters::{Discovered, Extension, Warming};
use tulle_core::Str;

use super::super::cx::{Cx, type_name};
use super::super::source::require_ads;
use super::{Known, known};

/// A chain's filter that is to be discovered under its name.
pub fn discovered(cx: &mut Cx, name: Str, message: core_pb::ExtensionConfigSource) -> Option<HttpFilter> {
    let core_pb::ExtensionConfigSource {
        config_source,
        default_config,
        apply_default_config_without_warming,
        type_urls,
    } = message;
    let patience = require_ads(cx, "config_source", config_source);
    if type_urls.is_empty() {
        cx.error_at("type_urls", "must not be empty");
    }
    let types: Vec<Str> = type_urls.iter().map(|url| cx.intern(type_name(url))).collect();
    let default = match default_config {
        None if apply_default_config_without_warming => {
            cx.error_at("default_config", "is required where it applies without warming");
            return None;
        }
        None => None,
        Some(any) => cx.field("default_config", |cx| {
            if !types.iter().any(|kind| **kind == *type_name(&any.type_url)) {
                cx.error(format!("{} is not among type_urls", type_name(&any.type_url)));
            }
            Some(Arc::new(settings(cx, name.clone(), &any)?))
        }),
    };
    let warming = if apply_default_config_without_warming { Warming::NotNeeded } else { Warming::Needed };
    Some(HttpFilter::Discovered(Discovered { name, default, warming, patience, types: types.into() }))
}

/// A filter's settings as a resource.
pub fn extension(cx: &mut Cx, message: core_pb::TypedExtensionConfig) -> Option<(Str, Extension)> {
    let core_pb::TypedExtensionConfig { name, typed_config } = message;
    let name = cx.name("name", &name)?;
    let any = cx.required("typed_config", typed_config)?;
    let settings = cx.field("typed_config", |cx| settings(cx, name.clone(), &any))?;
    Some((name, settings))
}

fn settings(cx: &mut Cx, name: Str, any: &Any) -> Option<Extension> {
    let kind = cx.intern(type_name(&any.type_url));
    let filter = match known(cx, name, any) {
        Known::Filter(Some(HttpFilter::Router(_))) => {
            cx.error("the router ends its chain and cannot be discovered");
            return None;
        }
        Known::Filter(filter) => Some(filter?),
        Known::Elsewhere | Known::Off | Known::WithoutEffect => None,
        Known::No => {
            cx.error(format!("the HTTP filter {kind} is not supported"));
            return None;
        }
    };
    Some(Extension { kind, filter })
}
