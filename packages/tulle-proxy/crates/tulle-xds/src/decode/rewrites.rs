//! How a route rewrites the path and the host of what it forwards.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3::route_action as action_pb;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use tulle_route::{HostRewrite, PathMatch, PathRewrite};
use tulle_telemetry::TextFormat;

use super::common::optional;
use super::cx::Cx;
use super::matchers::regex_rewrite;
use super::route_match::template_rewrite;

/// The fields that rewrite the path, of which one may be set.
pub struct PathRewrites {
    pub prefix: String,
    pub regex: Option<RegexMatchAndSubstitute>,
    pub policy: Option<TypedExtensionConfig>,
    pub format: String,
}

/// `None` after an error; `Some(None)` where the path stays as it is.
pub fn path(cx: &mut Cx, given: PathRewrites, matched: &PathMatch) -> Option<Option<PathRewrite>> {
    let PathRewrites { prefix, regex, policy, format: text } = given;
    let set = [!prefix.is_empty(), regex.is_some(), policy.is_some(), !text.is_empty()];
    if set.iter().filter(|set| **set).count() > 1 {
        cx.error("only one of prefix_rewrite, regex_rewrite, path_rewrite_policy and path_rewrite may be set");
        return None;
    }
    if let Some(rewrite) = regex {
        let rewrite = cx.field("regex_rewrite", |cx| regex_rewrite(cx, rewrite))?;
        return Some(Some(PathRewrite::Regex(rewrite)));
    }
    if let Some(policy) = policy {
        let rewrite = cx.field("path_rewrite_policy", |cx| template_rewrite(cx, policy, matched))?;
        return Some(Some(PathRewrite::Template(rewrite)));
    }
    if !text.is_empty() {
        return Some(Some(PathRewrite::Format(format(cx, "path_rewrite", &text)?)));
    }
    Some(optional(cx, &prefix).map(PathRewrite::Prefix))
}

fn format(cx: &mut Cx, name: &str, text: &str) -> Option<TextFormat> {
    TextFormat::parse(text).map_err(|error| cx.error_at(name, error.to_string())).ok()
}

/// `None` after an error; `Some(None)` for an explicit "do not rewrite".
pub fn host(cx: &mut Cx, specifier: action_pb::HostRewriteSpecifier) -> Option<Option<HostRewrite>> {
    use action_pb::HostRewriteSpecifier as Specifier;
    Some(match specifier {
        Specifier::HostRewriteLiteral(host) => optional(cx, &host).map(HostRewrite::Literal),
        Specifier::AutoHostRewrite(auto) => auto.value.then_some(HostRewrite::Auto),
        Specifier::HostRewriteHeader(name) => {
            Some(HostRewrite::Header(cx.name("host_rewrite_header", &name.to_ascii_lowercase())?))
        }
        Specifier::HostRewritePathRegex(rewrite) => {
            Some(HostRewrite::PathRegex(cx.field("host_rewrite_path_regex", |cx| regex_rewrite(cx, rewrite))?))
        }
        Specifier::HostRewrite(text) => Some(HostRewrite::Format(format(cx, "host_rewrite", &text)?)),
    })
}
