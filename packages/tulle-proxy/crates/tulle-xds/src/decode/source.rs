//! Where configuration comes from: the aggregated stream, for how long its first answer is waited for, or a file.

use std::sync::Arc;
use std::time::Duration;

use core_pb::config_source::ConfigSourceSpecifier as Specifier;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use tulle_config::{FileSource, Patience, Source};
use tulle_core::Str;

use super::cx::{Cx, refuse};

/// Refuses every source but the one aggregated stream, and says how long its first answer is waited for.
pub fn require_ads(cx: &mut Cx, field: &str, source: Option<core_pb::ConfigSource>) -> Patience {
    let source = source.unwrap_or_default();
    match &source.config_source_specifier {
        Some(Specifier::Ads(_) | Specifier::Self_(_)) => {}
        Some(_) => cx.error_at(field, "must be ads: other sources are not supported here"),
        None => cx.error_at(field, "is required"),
    }
    cx.field(field, |cx| patience(cx, source))
}

/// Where a resource comes from, and the key under which it is held.
pub fn source(cx: &mut Cx, field: &str, source: Option<core_pb::ConfigSource>, name: &str) -> Option<(Str, Source)> {
    let source = cx.required(field, source)?;
    cx.field(field, |cx| match file(cx, &source)? {
        Some(path) => {
            let key = cx.intern(&format!("{name} of {path}"));
            patience(cx, source);
            Some((key, Source::File(Arc::new(FileSource { path, name: cx.intern(name) }))))
        }
        None => Some((cx.intern(name), Source::Ads(patience(cx, source)))),
    })
}

/// The path of the file that a source is; `Some(None)` for the aggregated stream.
pub fn file(cx: &mut Cx, source: &core_pb::ConfigSource) -> Option<Option<Str>> {
    match cx.required("config_source_specifier", source.config_source_specifier.as_ref())? {
        Specifier::Ads(_) | Specifier::Self_(_) => Some(None),
        Specifier::Path(path) => cx.name("path", path).map(Some),
        Specifier::PathConfigSource(core_pb::PathConfigSource { path, watched_directory: _, poll_interval: _ }) => {
            // A file is looked at where it is, wherever what changes it happens.
            cx.name("path_config_source.path", path).map(Some)
        }
        Specifier::ApiConfigSource(_) => {
            cx.error_at("api_config_source", "is not supported: it must be ads or path_config_source");
            None
        }
    }
}

/// How long a source's first answer is waited for.
pub fn patience(cx: &mut Cx, source: core_pb::ConfigSource) -> Patience {
    let core_pb::ConfigSource { authorities, initial_fetch_timeout, resource_api_version, config_source_specifier: _ } =
        source;
    refuse!(cx; authorities);
    cx.enumeration::<core_pb::ApiVersion>("resource_api_version", resource_api_version);
    match cx.duration("initial_fetch_timeout", initial_fetch_timeout) {
        None => Patience::default(),
        Some(Duration::ZERO) => Patience::Forever,
        Some(limit) => Patience::For(limit),
    }
}
