//! Routes that answer by themselves: redirects and direct responses.

use envoy_types::pb::envoy::config::route::v3 as route_pb;
use tulle_route::{DirectResponse, Redirect, RedirectPath};

use super::common::{content, optional};
use super::cx::{Cx, refuse};
use super::matchers::regex_rewrite;

pub fn redirect(cx: &mut Cx, message: route_pb::RedirectAction) -> Option<Redirect> {
    use route_pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode as Code, SchemeRewriteSpecifier};
    let route_pb::RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = message;
    let (https, scheme) = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(https)) => (https, None),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => (false, optional(cx, &scheme)),
        None => (false, None),
    };
    let path = match path_rewrite_specifier {
        None => RedirectPath::Keep,
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) if prefix.is_empty() => RedirectPath::Keep,
        Some(PathRewriteSpecifier::PathRedirect(path)) => RedirectPath::Replace(cx.intern(&path)),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => RedirectPath::Prefix(cx.intern(&prefix)),
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            RedirectPath::Regex(cx.field("regex_rewrite", |cx| regex_rewrite(cx, rewrite))?)
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            cx.refuse("path_rewrite");
            return None;
        }
    };
    let Ok(port) = u16::try_from(port_redirect) else {
        cx.error_at("port_redirect", "is beyond 65535");
        return None;
    };
    Some(Redirect {
        https,
        scheme,
        host: optional(cx, &host_redirect),
        port: (port != 0).then_some(port),
        path,
        status: match cx.enumeration::<Code>("response_code", response_code)? {
            Code::MovedPermanently => 301,
            Code::Found => 302,
            Code::SeeOther => 303,
            Code::TemporaryRedirect => 307,
            Code::PermanentRedirect => 308,
        },
        strip_query,
    })
}

pub fn direct_response(cx: &mut Cx, message: route_pb::DirectResponseAction) -> Option<DirectResponse> {
    let route_pb::DirectResponseAction { status, body, body_format } = message;
    refuse!(cx; body_format);
    let valid = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
    if valid.is_none() {
        cx.error_at("status", format!("{status} is not between 200 and 599"));
    }
    let body = match body {
        None => Box::default(),
        Some(source) => cx.field("body", |cx| content(cx, source))?,
    };
    Some(DirectResponse { status: valid?, body })
}
