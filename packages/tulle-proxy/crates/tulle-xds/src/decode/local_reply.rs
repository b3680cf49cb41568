//! `local_reply_config`: how the proxy's own answers are worded.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm_pb;
use tulle_config::LogFormat;
use tulle_config::local_reply::{BodyFormat, LocalReply, Mapper};
use tulle_route::HeaderMutations;

use super::access_log::{log_filter, substitution};
use super::common::content;
use super::cx::Cx;
use super::mutation::header_value;

pub fn local_reply_config(cx: &mut Cx, message: hcm_pb::LocalReplyConfig) -> LocalReply {
    let hcm_pb::LocalReplyConfig { mappers, body_format: format } = message;
    LocalReply {
        mappers: cx.each("mappers", mappers, mapper),
        format: format.and_then(|format| cx.field("body_format", |cx| body_format(cx, format))),
    }
}

fn mapper(cx: &mut Cx, message: hcm_pb::ResponseMapper) -> Option<Mapper> {
    let hcm_pb::ResponseMapper { filter, status_code, body, body_format_override, headers_to_add } = message;
    let filter = cx.required("filter", filter)?;
    Some(Mapper {
        filter: cx.field("filter", |cx| log_filter(cx, filter))?,
        status: match status_code {
            Some(code) => Some(status(cx, code.value)?),
            None => None,
        },
        body: match body {
            Some(source) => Some(cx.field("body", |cx| content(cx, source))?),
            None => None,
        },
        headers: HeaderMutations {
            response_add: cx.each("headers_to_add", headers_to_add, header_value).into(),
            ..HeaderMutations::default()
        },
        format: match body_format_override {
            Some(format) => Some(cx.field("body_format_override", |cx| body_format(cx, format))?),
            None => None,
        },
    })
}

fn status(cx: &mut Cx, code: u32) -> Option<u16> {
    let valid = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    if valid.is_none() {
        cx.error_at("status_code", format!("{code} is not between 200 and 599"));
    }
    valid
}

fn body_format(cx: &mut Cx, mut message: core_pb::SubstitutionFormatString) -> Option<BodyFormat> {
    let content_type = std::mem::take(&mut message.content_type);
    let omit_absent = message.omit_empty_values;
    let format = substitution(cx, Some(message))?;
    let content_type = match (&format, content_type.as_str()) {
        (LogFormat::Text(_), "") => "text/plain",
        (LogFormat::Json(_), "") => "application/json",
        (_, given) if given.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) => given,
        _ => {
            cx.error_at("content_type", "is not a header's value");
            return None;
        }
    };
    Some(BodyFormat { format, content_type: cx.intern(content_type), omit_absent })
}
