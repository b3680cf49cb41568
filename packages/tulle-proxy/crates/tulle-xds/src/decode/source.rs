//! Where configuration comes from: the aggregated stream, and for how long its first answer is waited for.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use tulle_config::Patience;

use super::cx::{Cx, refuse};

/// Refuses every source but the one aggregated stream, and says how long its first answer is waited for.
pub fn require_ads(cx: &mut Cx, field: &str, source: Option<core_pb::ConfigSource>) -> Patience {
    use core_pb::config_source::ConfigSourceSpecifier as Specifier;
    let source = source.unwrap_or_default();
    match &source.config_source_specifier {
        Some(Specifier::Ads(_) | Specifier::Self_(_)) => {}
        Some(_) => cx.error_at(field, "must be ads: other sources are not supported"),
        None => cx.error_at(field, "is required"),
    }
    cx.field(field, |cx| patience(cx, source))
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
