//! The session filter: in what the client keeps its endpoint, and how strictly it is kept there.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3 as session_pb;
use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use envoy_types::pb::envoy::r#type::http::v3 as http_pb;
use prost::Name as _;
use tulle_core::cookie::SetCookie;
use tulle_policy::FilterOverride;
use tulle_policy::session::{Session, SessionStore};

use super::super::cookies::{Written, set_cookie, token};
use super::super::cx::{Cx, type_name, without_effect};

pub fn session(cx: &mut Cx, message: session_pb::StatefulSession) -> Option<Session> {
    let session_pb::StatefulSession {
        session_state,
        strict,
        stat_prefix,
        status_on_strict_destination_not_found: gone,
    } = message;
    without_effect!(cx; stat_prefix);
    let gone_status = match gone {
        0 => Some(503),
        code => u16::try_from(code).ok().filter(|code| (200..600).contains(code)),
    };
    if gone_status.is_none() {
        cx.error_at("status_on_strict_destination_not_found", format!("{gone} is not between 200 and 599"));
    }
    let store = match session_state {
        Some(state) => Some(cx.field("session_state", |cx| store(cx, state))?),
        None => None,
    };
    Some(Session { store, strict, gone_status: gone_status? })
}

pub fn per_route(cx: &mut Cx, message: session_pb::StatefulSessionPerRoute) -> Option<FilterOverride> {
    use session_pb::stateful_session_per_route::Override;
    match cx.required("override", message.r#override)? {
        Override::Disabled(true) => Some(FilterOverride::Off),
        Override::Disabled(false) => {
            cx.error_at("disabled", "must be true, or not be there");
            None
        }
        Override::StatefulSession(own) => {
            let settings = cx.field("stateful_session", |cx| session(cx, own))?;
            Some(FilterOverride::Session(Arc::new(settings)))
        }
    }
}

fn store(cx: &mut Cx, message: TypedExtensionConfig) -> Option<SessionStore> {
    let TypedExtensionConfig { name: _, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    cx.field("typed_config", |cx| match type_name(&any.type_url) {
        typed if typed == CookieBasedSessionState::full_name() => {
            let CookieBasedSessionState { cookie: own } = cx.unpack(&any)?;
            let own = cx.required("cookie", own)?;
            cx.field("cookie", |cx| session_cookie(cx, own)).map(SessionStore::Cookie)
        }
        typed if typed == HeaderBasedSessionState::full_name() => {
            let HeaderBasedSessionState { name } = cx.unpack(&any)?;
            token(cx, "name", &name.to_ascii_lowercase()).map(SessionStore::Header)
        }
        other => {
            cx.error(format!("the session state {other} is not supported"));
            None
        }
    })
}

fn session_cookie(cx: &mut Cx, message: http_pb::Cookie) -> Option<SetCookie> {
    let http_pb::Cookie { name, ttl, path, attributes } = message;
    let attributes = attributes.into_iter().map(|http_pb::CookieAttribute { name, value }| (name, value)).collect();
    set_cookie(cx, Written { name, path, ttl, attributes })
}
