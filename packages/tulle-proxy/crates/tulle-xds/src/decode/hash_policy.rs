//! Hash policies of routes: what consistent hashing hashes.

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use route_pb::route_action as action_pb;
use tulle_route::{HashPolicy, HashSource, WhenMissing};

use super::cookies::{Written, set_cookie};
use super::cx::Cx;
use super::matchers::regex_rewrite;

pub fn hash_policy(cx: &mut Cx, message: action_pb::HashPolicy) -> Option<HashPolicy> {
    use action_pb::hash_policy::PolicySpecifier as Specifier;
    let action_pb::HashPolicy { terminal, policy_specifier } = message;
    let source = match cx.required("policy_specifier", policy_specifier)? {
        Specifier::Header(header) => HashSource::Header {
            name: cx.name("header.header_name", &header.header_name.to_ascii_lowercase())?,
            rewrite: match header.regex_rewrite {
                Some(rewrite) => Some(cx.field("header.regex_rewrite", |cx| regex_rewrite(cx, rewrite))?),
                None => None,
            },
        },
        Specifier::Cookie(written) => cx.field("cookie", |cx| cookie(cx, written))?,
        Specifier::ConnectionProperties(properties) if properties.source_ip => HashSource::SourceIp,
        Specifier::ConnectionProperties(_) => {
            cx.error_at("connection_properties.source_ip", "must be true: there is nothing else to hash");
            return None;
        }
        Specifier::QueryParameter(query) => HashSource::QueryParameter(cx.name("query_parameter.name", &query.name)?),
        Specifier::FilterState(state) => {
            cx.ignore("filter_state");
            HashSource::FilterState(cx.name("filter_state.key", &state.key)?)
        }
    };
    Some(HashPolicy { source, terminal })
}

/// A cookie without a lifetime is only read; with one, clients that have none get it.
fn cookie(cx: &mut Cx, message: action_pb::hash_policy::Cookie) -> Option<HashSource> {
    let action_pb::hash_policy::Cookie { name, ttl, path, attributes } = message;
    let when_missing = if ttl.is_some() { WhenMissing::Generated } else { WhenMissing::NotHashed };
    let attributes =
        attributes.into_iter().map(|action_pb::hash_policy::CookieAttribute { name, value }| (name, value)).collect();
    let cookie = set_cookie(cx, Written { name, path, ttl, attributes })?;
    Some(HashSource::Cookie { cookie, when_missing })
}
