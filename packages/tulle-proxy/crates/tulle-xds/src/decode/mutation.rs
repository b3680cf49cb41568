//! Header additions and removals of routes, virtual hosts and weighted clusters.

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use tulle_core::Str;
use tulle_route::{AppendAction, HeaderMutation, HeaderMutations, HeaderValue};
use tulle_telemetry::TextFormat;

use super::cx::{Cx, without_effect};
use super::matchers::string_matcher;

/// The four lists as the messages carry them.
pub struct Lists {
    pub request_add: Vec<core_pb::HeaderValueOption>,
    pub request_remove: Vec<String>,
    pub response_add: Vec<core_pb::HeaderValueOption>,
    pub response_remove: Vec<String>,
}

pub fn mutations(cx: &mut Cx, lists: Lists) -> HeaderMutations {
    HeaderMutations {
        request_add: cx.each("request_headers_to_add", lists.request_add, header_value).into(),
        request_remove: cx.each("request_headers_to_remove", lists.request_remove, removed).into(),
        response_add: cx.each("response_headers_to_add", lists.response_add, header_value).into(),
        response_remove: cx.each("response_headers_to_remove", lists.response_remove, removed).into(),
    }
}

fn removed(cx: &mut Cx, name: String) -> Option<Str> {
    let name = name.to_ascii_lowercase();
    header_name(cx, &name)
}

/// The changes of a list, in its order.
pub fn header_mutation(cx: &mut Cx, message: rules_pb::HeaderMutation) -> Option<HeaderMutation> {
    use rules_pb::header_mutation::{Action, RemoveOnMatch};
    Some(match cx.required("action", message.action)? {
        Action::Append(value) => HeaderMutation::Add(cx.field("append", |cx| header_value(cx, value))?),
        Action::Remove(name) => HeaderMutation::Remove(cx.field("remove", |cx| removed(cx, name))?),
        Action::RemoveOnMatch(RemoveOnMatch { key_matcher }) => {
            let matcher = cx.required("remove_on_match.key_matcher", key_matcher)?;
            let matcher = cx.field("remove_on_match.key_matcher", |cx| string_matcher(cx, matcher))?;
            HeaderMutation::RemoveNamed(matcher)
        }
    })
}

fn header_name(cx: &mut Cx, name: &str) -> Option<Str> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.starts_with(':') || name == "host" {
        // As Envoy: rewrites are for these, and a request without them would not be a request.
        cx.error("pseudo-headers and host cannot be changed as headers");
        return None;
    }
    if name.is_empty() || !name.bytes().all(token) {
        cx.error(format!("{name:?} is not a header name"));
        return None;
    }
    Some(cx.intern(name))
}

pub fn header_value(cx: &mut Cx, message: core_pb::HeaderValueOption) -> Option<HeaderValue> {
    use core_pb::header_value_option::HeaderAppendAction as Action;
    let core_pb::HeaderValueOption { header, append, append_action, keep_empty_value } = message;
    let core_pb::HeaderValue { key, value, raw_value } = cx.required("header", header)?;
    let action = match append {
        // The deprecated wrapper wins when it is there, as in Envoy.
        Some(append) if append.value => AppendAction::AppendIfExistsOrAdd,
        Some(_) => AppendAction::OverwriteIfExistsOrAdd,
        None => match cx.enumeration::<Action>("append_action", append_action)? {
            Action::AppendIfExistsOrAdd => AppendAction::AppendIfExistsOrAdd,
            Action::AddIfAbsent => AppendAction::AddIfAbsent,
            Action::OverwriteIfExistsOrAdd => AppendAction::OverwriteIfExistsOrAdd,
            Action::OverwriteIfExists => AppendAction::OverwriteIfExists,
        },
    };
    let name = cx.field("header.key", |cx| header_name(cx, &key.to_ascii_lowercase()))?;
    // As in Envoy's `HeaderParser`.
    cx.field("header", |cx| without_effect!(cx; raw_value));
    let text = value;
    if text.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        cx.error_at("header.value", "must not contain CR, LF or NUL");
        return None;
    }
    let value = match TextFormat::parse(&text) {
        Ok(value) => value,
        Err(error) => {
            cx.error_at("header.value", error.to_string());
            return None;
        }
    };
    Some(HeaderValue { name, value, action, keep_empty: keep_empty_value })
}
