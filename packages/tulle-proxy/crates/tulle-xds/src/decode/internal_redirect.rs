//! Redirects that a route follows by itself.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
use envoy_types::pb::envoy::extensions::internal_redirect::previous_routes::v3::PreviousRoutesConfig;
use envoy_types::pb::envoy::extensions::internal_redirect::safe_cross_scheme::v3::SafeCrossSchemeConfig;
use prost::Name as _;
use route_pb::route_action::InternalRedirectAction;
use tulle_core::Str;
use tulle_route::redirects::{CrossScheme, InternalRedirects, RedirectPredicate};

use super::common::uint;
use super::cx::{Cx, type_name};

/// Envoy's default: only these are followed, and once.
const FOUND: u16 = 302;

pub fn internal_redirects(cx: &mut Cx, message: route_pb::InternalRedirectPolicy) -> Option<InternalRedirects> {
    let route_pb::InternalRedirectPolicy {
        max_internal_redirects,
        redirect_response_codes: codes,
        predicates,
        allow_cross_scheme_redirect,
        response_headers_to_copy,
    } = message;
    let known = |code: u32| u16::try_from(code).ok().filter(|code| matches!(code, 301..=303 | 307 | 308));
    let statuses: Vec<u16> = if codes.is_empty() { vec![FOUND] } else { codes.into_iter().filter_map(known).collect() };
    Some(InternalRedirects {
        max: uint(max_internal_redirects).unwrap_or(1),
        statuses: statuses.into(),
        copy: cx.each("response_headers_to_copy", response_headers_to_copy, copied).into(),
        predicates: cx.each("predicates", predicates, predicate).into(),
        cross_scheme: if allow_cross_scheme_redirect { CrossScheme::Followed } else { CrossScheme::Refused },
    })
}

/// The deprecated fields, which say less.
pub fn by_action(cx: &mut Cx, action: i32, max: Option<u32>) -> Option<InternalRedirects> {
    match cx.enumeration::<InternalRedirectAction>("internal_redirect_action", action)? {
        InternalRedirectAction::PassThroughInternalRedirect => None,
        InternalRedirectAction::HandleInternalRedirect => Some(InternalRedirects {
            max: max.unwrap_or(1),
            statuses: Box::new([FOUND]),
            copy: Box::default(),
            predicates: Box::default(),
            cross_scheme: CrossScheme::Refused,
        }),
    }
}

fn copied(cx: &mut Cx, name: String) -> Option<Str> {
    let name = name.to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    // What frames a message belongs to its own connection.
    if name.is_empty() || !name.bytes().all(token) || matches!(&*name, "host" | "content-length" | "transfer-encoding")
    {
        cx.error(format!("{name:?} cannot be copied"));
        return None;
    }
    Some(cx.intern(&name))
}

fn predicate(cx: &mut Cx, message: TypedExtensionConfig) -> Option<RedirectPredicate> {
    let TypedExtensionConfig { name: _, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    cx.field("typed_config", |cx| match type_name(&any.type_url) {
        typed if typed == AllowListedRoutesConfig::full_name() => {
            let AllowListedRoutesConfig { allowed_route_names } = cx.unpack(&any)?;
            let names = allowed_route_names.iter().map(|name| cx.intern(name)).collect();
            Some(RedirectPredicate::AllowListed(names))
        }
        typed if typed == PreviousRoutesConfig::full_name() => Some(RedirectPredicate::PreviousRoutes),
        typed if typed == SafeCrossSchemeConfig::full_name() => Some(RedirectPredicate::SafeCrossScheme),
        other => {
            cx.error(format!("the redirect predicate {other} is not supported"));
            None
        }
    })
}
