//! What a route matches.

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use tulle_route::{PathMatch, QueryMatcher, QueryTest, RouteMatch};

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
    refuse!(cx; cookies, tls_context, filter_state);
    let path = cx.required("path_specifier", path_specifier).and_then(|specifier| path(cx, specifier));
    Some(RouteMatch {
        headers: cx.each("headers", headers, header_matcher).into(),
        query: cx.each("query_parameters", query_parameters, query_parameter).into(),
        path: path?,
        case_sensitive: truth(case_sensitive, true),
        runtime_fraction: match fraction {
            Some(fraction) => Some(cx.field("runtime_fraction", |cx| runtime_fraction(cx, fraction))?),
            None => None,
        },
        grpc: grpc.is_some(),
        metadata: cx.each("dynamic_metadata", dynamic_metadata, metadata_matcher).into(),
    })
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
        PathSpecifier::PathMatchPolicy(_) => {
            cx.refuse("path_match_policy");
            return None;
        }
    })
}

fn query_parameter(cx: &mut Cx, message: route_pb::QueryParameterMatcher) -> Option<QueryMatcher> {
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
