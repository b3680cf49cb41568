//! The `rate_limits` of filters, routes and virtual hosts: which descriptors a request yields.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::r#type::matcher::v3::AddressMatcher;
use envoy_types::pb::envoy::r#type::metadata::v3::MetadataKey;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::PathSegment;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use envoy_types::pb::xds::core::v3::CidrRange;
use route_pb::rate_limit as slot_pb;
use tulle_core::{Cidr, Str};
use tulle_policy::descriptors::{LimitSource, MetadataPath, RateLimitAction, RateLimitSlot, WhenAbsent};

use super::super::address::cidr;
use super::super::common::{optional, truth, uint};
use super::super::cx::{Cx, refuse, without_effect};
use super::super::matchers::header_matcher;
use super::super::route_match::query_parameter;

/// As in Envoy.
const MOST_HITS: u32 = 1_000_000_000;

/// Of a route or a virtual host, whose requests count as one hit each, as in Envoy.
pub fn slot(cx: &mut Cx, mut message: route_pb::RateLimit) -> Option<RateLimitSlot> {
    if message.hits_addend.take().is_some() {
        cx.ignore("hits_addend");
    }
    own_slot(cx, message)
}

/// Of a filter's own settings.
pub fn own_slot(cx: &mut Cx, message: route_pb::RateLimit) -> Option<RateLimitSlot> {
    let route_pb::RateLimit {
        stage,
        disable_key,
        actions,
        limit,
        hits_addend,
        apply_on_stream_done,
        x_ratelimit_option,
    } = message;
    refuse!(cx; apply_on_stream_done, x_ratelimit_option);
    without_effect!(cx; disable_key);
    let stage = uint(stage).unwrap_or(0);
    if stage > 10 {
        cx.error_at("stage", "must be at most 10");
    }
    if actions.is_empty() {
        cx.error_at("actions", "must not be empty");
    }
    let wanted = actions.len();
    let actions = cx.each("actions", actions, action);
    let hits = match hits_addend {
        Some(addend) => Some(cx.field("hits_addend", |cx| hits(cx, addend))?),
        None => None,
    };
    let limit = match limit {
        Some(limit) => Some(cx.field("limit", |cx| limit_override(cx, limit))?),
        None => None,
    };
    (actions.len() == wanted).then(|| RateLimitSlot { stage, actions: actions.into(), hits, limit })
}

fn action(cx: &mut Cx, message: slot_pb::Action) -> Option<RateLimitAction> {
    use slot_pb::action::ActionSpecifier as Kind;
    let slot_pb::Action { action_specifier } = message;
    Some(match cx.required("action_specifier", action_specifier)? {
        Kind::DestinationCluster(_) => RateLimitAction::DestinationCluster,
        Kind::RemoteAddress(_) => RateLimitAction::RemoteAddress,
        Kind::RequestHeaders(slot_pb::action::RequestHeaders { header_name, descriptor_key, skip_if_absent }) => {
            RateLimitAction::RequestHeader {
                name: cx.name("request_headers.header_name", &header_name.to_ascii_lowercase())?,
                key: cx.name("request_headers.descriptor_key", &descriptor_key)?,
                when_absent: if skip_if_absent { WhenAbsent::SkipEntry } else { WhenAbsent::NoDescriptor },
            }
        }
        Kind::QueryParameters(slot_pb::action::QueryParameters {
            query_parameter_name,
            descriptor_key,
            skip_if_absent,
        }) => RateLimitAction::QueryParameter {
            name: cx.name("query_parameters.query_parameter_name", &query_parameter_name)?,
            key: cx.name("query_parameters.descriptor_key", &descriptor_key)?,
            when_absent: if skip_if_absent { WhenAbsent::SkipEntry } else { WhenAbsent::NoDescriptor },
        },
        Kind::MaskedRemoteAddress(slot_pb::action::MaskedRemoteAddress { v4_prefix_mask_len, v6_prefix_mask_len }) => {
            let (v4, v6) = (uint(v4_prefix_mask_len).unwrap_or(32), uint(v6_prefix_mask_len).unwrap_or(128));
            if v4 > 32 || v6 > 128 {
                cx.error_at("masked_remote_address", "masks are at most 32 and 128 bits");
                return None;
            }
            RateLimitAction::MaskedRemoteAddress { v4: v4 as u8, v6: v6 as u8 }
        }
        Kind::SourceCluster(_) => RateLimitAction::SourceCluster,
        Kind::GenericKey(slot_pb::action::GenericKey { descriptor_value, default_value, descriptor_key }) => {
            refuse!(cx; default_value);
            RateLimitAction::Generic {
                key: key(cx, &descriptor_key, "generic_key"),
                value: value(cx, "generic_key.descriptor_value", &descriptor_value)?,
            }
        }
        Kind::HeaderValueMatch(matching) => {
            let slot_pb::action::HeaderValueMatch {
                descriptor_value,
                default_value,
                descriptor_key,
                expect_match,
                headers,
            } = matching;
            refuse!(cx; default_value);
            RateLimitAction::HeaderValueMatch {
                key: key(cx, &descriptor_key, "header_match"),
                value: value(cx, "header_value_match.descriptor_value", &descriptor_value)?,
                expected: truth(expect_match, true),
                headers: cx.each("header_value_match.headers", headers, header_matcher).into(),
            }
        }
        Kind::QueryParameterValueMatch(matching) => {
            let slot_pb::action::QueryParameterValueMatch {
                descriptor_value,
                default_value,
                descriptor_key,
                expect_match,
                query_parameters,
            } = matching;
            refuse!(cx; default_value);
            RateLimitAction::QueryParameterValueMatch {
                key: key(cx, &descriptor_key, "query_match"),
                value: value(cx, "query_parameter_value_match.descriptor_value", &descriptor_value)?,
                expected: truth(expect_match, true),
                parameters: cx
                    .each("query_parameter_value_match.query_parameters", query_parameters, query_parameter)
                    .into(),
            }
        }
        Kind::RemoteAddressMatch(matching) => cx.field("remote_address_match", |cx| address_match(cx, matching))?,
        Kind::DynamicMetadata(slot_pb::action::DynamicMetaData { descriptor_key, metadata_key, default_value }) => {
            cx.field("dynamic_metadata", |cx| {
                Some(RateLimitAction::Metadata {
                    key: cx.name("descriptor_key", &descriptor_key)?,
                    place: place(cx, metadata_key)?,
                    default: optional(cx, &default_value),
                    when_absent: WhenAbsent::NoDescriptor,
                })
            })?
        }
        Kind::Metadata(metadata) => cx.field("metadata", |cx| by_metadata(cx, metadata))?,
        _ => {
            cx.error("this action is not supported");
            return None;
        }
    })
}

fn key(cx: &mut Cx, given: &str, default: &str) -> Str {
    cx.intern(if given.is_empty() { default } else { given })
}

/// A value is sent as it stands: what Envoy would put in for `%…%` is not known here.
fn value(cx: &mut Cx, field: &str, text: &str) -> Option<Str> {
    if text.contains('%') {
        cx.error_at(field, "substitutions are not supported");
    }
    cx.name(field, text)
}

fn address_match(cx: &mut Cx, message: slot_pb::action::RemoteAddressMatch) -> Option<RateLimitAction> {
    let slot_pb::action::RemoteAddressMatch { descriptor_value, descriptor_key, default_value, address_matcher } =
        message;
    refuse!(cx; default_value);
    let AddressMatcher { ranges, invert_match } = cx.required("address_matcher", address_matcher)?;
    Some(RateLimitAction::RemoteAddressMatch {
        key: key(cx, &descriptor_key, "remote_address_match"),
        value: value(cx, "descriptor_value", &descriptor_value)?,
        expected: !invert_match,
        ranges: cx.each("address_matcher.ranges", ranges, range).into(),
    })
}

fn range(cx: &mut Cx, message: CidrRange) -> Option<Cidr> {
    let CidrRange { address_prefix, prefix_len } = message;
    cidr(cx, core_pb::CidrRange { address_prefix, prefix_len })
}

fn by_metadata(cx: &mut Cx, message: slot_pb::action::MetaData) -> Option<RateLimitAction> {
    use slot_pb::action::meta_data::Source;
    let slot_pb::action::MetaData { descriptor_key, metadata_key, default_value, source, skip_if_absent } = message;
    if cx.enumeration::<Source>("source", source)? != Source::Dynamic {
        cx.refuse("source");
    }
    Some(RateLimitAction::Metadata {
        key: cx.name("descriptor_key", &descriptor_key)?,
        place: place(cx, metadata_key)?,
        default: optional(cx, &default_value),
        when_absent: if skip_if_absent { WhenAbsent::SkipEntry } else { WhenAbsent::NoDescriptor },
    })
}

fn place(cx: &mut Cx, message: Option<MetadataKey>) -> Option<MetadataPath> {
    let MetadataKey { key, path } = cx.required("metadata_key", message)?;
    cx.field("metadata_key", |cx| {
        let path = cx.each("path", path, |cx, PathSegment { segment }| match cx.required("key", segment)? {
            Segment::Key(key) => cx.name("key", &key),
            Segment::Index(_) => {
                cx.refuse("index");
                None
            }
        });
        if path.is_empty() {
            cx.error_at("path", "must not be empty");
        }
        Some(MetadataPath { filter: cx.name("key", &key)?, path: path.into() })
    })
}

/// A number of hits; what a format would yield is not supported.
fn hits(cx: &mut Cx, message: slot_pb::HitsAddend) -> Option<u32> {
    let slot_pb::HitsAddend { number, format, is_negative_hits } = message;
    refuse!(cx; format, is_negative_hits);
    let number = cx.required("number", number)?.value;
    let hits = u32::try_from(number).ok().filter(|hits| *hits <= MOST_HITS);
    if hits.is_none() {
        cx.error_at("number", format!("{number} is beyond {MOST_HITS}"));
    }
    hits
}

fn limit_override(cx: &mut Cx, message: slot_pb::Override) -> Option<LimitSource> {
    use slot_pb::r#override::{DynamicMetadata, OverrideSpecifier, RateLimitOverride};
    match cx.required("override_specifier", message.override_specifier)? {
        OverrideSpecifier::DynamicMetadata(DynamicMetadata { metadata_key }) => {
            cx.field("dynamic_metadata", |cx| place(cx, metadata_key)).map(LimitSource::Metadata)
        }
        OverrideSpecifier::RateLimit(RateLimitOverride { requests_per_unit, unit }) => {
            let unit = cx.enumeration::<RateLimitUnit>("rate_limit.unit", unit)?;
            Some(LimitSource::Fixed { requests: requests_per_unit, unit: cx.intern(unit.as_str_name()) })
        }
    }
}
