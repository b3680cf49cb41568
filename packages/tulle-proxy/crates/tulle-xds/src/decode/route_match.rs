//! What a route matches.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig;
use tulle_policy::template::TemplateError;
use tulle_route::{
    CertificateTest, CookieMatcher, PathMatch, PathTemplate, QueryMatcher, QueryTest, RouteMatch, TemplateRewrite,
};

use super::common::{runtime_fraction, truth};
use super::cx::{Cx, refuse};
use super::matchers::{header_matcher, metadata_matcher, safe_regex, string_matcher};

pub fn route_match(cx: &mut Cx, message: route_pb::RouteMatch) -> Option<RouteMatch> {
    let route_pb::RouteMatch {
        case_sensitive,
        runtime_fraction: fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = message;
    refuse!(cx; filter_state);
    let path = cx.required("path_specifier", path_specifier).and_then(|specifier| path(cx, specifier));
    Some(RouteMatch {
        headers: cx.each("headers", headers, header_matcher).into(),
        query: cx.each("query_parameters", query_parameters, query_parameter).into(),
        cookies: cx.each("cookies", cookies, cookie).into(),
        path: path?,
        case_sensitive: truth(case_sensitive, true),
        // The route configuration says it.
        ignore_parameters: false,
        runtime_fraction: match fraction {
            Some(fraction) => Some(cx.field("runtime_fraction", |cx| runtime_fraction(cx, fraction))?),
            None => None,
        },
        grpc: grpc.is_some(),
        certificate: tls_context.map(certificate).unwrap_or_default(),
        metadata: cx.each("dynamic_metadata", dynamic_metadata, metadata_matcher).into(),
    })
}

fn certificate(message: route_pb::route_match::TlsContextMatchOptions) -> CertificateTest {
    let route_pb::route_match::TlsContextMatchOptions { presented, validated } = message;
    CertificateTest { presented: presented.map(|wanted| wanted.value), validated: validated.map(|wanted| wanted.value) }
}

fn path(cx: &mut Cx, specifier: route_pb::route_match::PathSpecifier) -> Option<PathMatch> {
    use route_pb::route_match::PathSpecifier;
    Some(match specifier {
        PathSpecifier::Prefix(prefix) => PathMatch::Prefix(cx.intern(&prefix)),
        PathSpecifier::Path(path) => PathMatch::Exact(cx.intern(&path)),
        PathSpecifier::SafeRegex(regex) => PathMatch::Regex(safe_regex(cx, "safe_regex", regex)?),
        PathSpecifier::ConnectMatcher(_) => PathMatch::Connect,
        PathSpecifier::PathSeparatedPrefix(prefix) => {
            let shape = prefix.len() > 1 && prefix.starts_with('/') && !prefix.ends_with('/');
            if !shape || prefix.contains(['?', '#']) {
                cx.error_at("path_separated_prefix", "must start with '/', not end with it, and have no '?' or '#'");
                return None;
            }
            PathMatch::SeparatedPrefix(cx.intern(&prefix))
        }
        PathSpecifier::PathMatchPolicy(policy) => {
            PathMatch::Template(cx.field("path_match_policy", |cx| path_template(cx, policy))?)
        }
    })
}

/// The template of a path-matching extension; there is no other kind.
pub fn path_template(cx: &mut Cx, message: TypedExtensionConfig) -> Option<PathTemplate> {
    let TypedExtensionConfig { name: _, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    cx.field("typed_config", |cx| {
        let UriTemplateMatchConfig { path_template } = cx.unpack(&any)?;
        good(cx, "path_template", PathTemplate::parse(&path_template))
    })
}

/// The rewrite of a path-rewriting extension, for the paths that a route matches.
pub fn template_rewrite(cx: &mut Cx, message: TypedExtensionConfig, matched: &PathMatch) -> Option<TemplateRewrite> {
    let TypedExtensionConfig { name: _, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    let PathMatch::Template(template) = matched else {
        cx.error("needs a path_match_policy in the route's match");
        return None;
    };
    cx.field("typed_config", |cx| {
        let UriTemplateRewriteConfig { path_template_rewrite } = cx.unpack(&any)?;
        good(cx, "path_template_rewrite", TemplateRewrite::parse(&path_template_rewrite, template))
    })
}

fn good<T>(cx: &mut Cx, name: &str, parsed: Result<T, TemplateError>) -> Option<T> {
    parsed.map_err(|error| cx.error_at(name, error.to_string())).ok()
}

fn cookie(cx: &mut Cx, message: route_pb::CookieMatcher) -> Option<CookieMatcher> {
    let route_pb::CookieMatcher { name, string_match, invert_match } = message;
    let test = cx.required("string_match", string_match)?;
    Some(CookieMatcher {
        name: cx.name("name", &name)?,
        test: cx.field("string_match", |cx| string_matcher(cx, test))?,
        invert: invert_match,
    })
}

pub fn query_parameter(cx: &mut Cx, message: route_pb::QueryParameterMatcher) -> Option<QueryMatcher> {
    use route_pb::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let route_pb::QueryParameterMatcher { name, query_parameter_match_specifier } = message;
    let name = cx.name("name", &name)?;
    let test = match query_parameter_match_specifier {
        None => QueryTest::Present(true),
        Some(Specifier::PresentMatch(present)) => QueryTest::Present(present),
        Some(Specifier::StringMatch(matcher)) => {
            QueryTest::String(cx.field("string_match", |cx| string_matcher(cx, matcher))?)
        }
    };
    Some(QueryMatcher { name, test })
}
