//! The `rate_limits` of filters, routes and virtual hosts: which descriptors a request yields.

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use route_pb::rate_limit as slot_pb;
use tulle_policy::descriptors::{RateLimitAction, RateLimitSlot, WhenAbsent};

use super::super::common::{truth, uint};
use super::super::cx::{Cx, refuse, without_effect};
use super::super::matchers::header_matcher;

pub fn slot(cx: &mut Cx, message: route_pb::RateLimit) -> Option<RateLimitSlot> {
    let route_pb::RateLimit {
        stage,
        disable_key,
        actions,
        limit,
        hits_addend,
        apply_on_stream_done,
        x_ratelimit_option,
    } = message;
    refuse!(cx; limit, hits_addend, apply_on_stream_done, x_ratelimit_option);
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
    (actions.len() == wanted).then(|| RateLimitSlot { stage, actions: actions.into() })
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
        Kind::GenericKey(slot_pb::action::GenericKey { descriptor_value, default_value, descriptor_key }) => {
            refuse!(cx; default_value);
            RateLimitAction::Generic {
                key: cx.intern(if descriptor_key.is_empty() { "generic_key" } else { &descriptor_key }),
                value: cx.name("generic_key.descriptor_value", &descriptor_value)?,
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
                key: cx.intern(if descriptor_key.is_empty() { "header_match" } else { &descriptor_key }),
                value: cx.name("header_value_match.descriptor_value", &descriptor_value)?,
                expected: truth(expect_match, true),
                headers: cx.each("header_value_match.headers", headers, header_matcher).into(),
            }
        }
        _ => {
            cx.error("this action is not supported");
            return None;
        }
    })
}
