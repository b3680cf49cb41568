//! The filter that reads a request's body before anything is sent on.

use envoy_types::pb::envoy::extensions::filters::http::buffer::v3 as buffer_pb;
use tulle_policy::FilterOverride;

use super::super::cx::Cx;

/// The most bytes of a body.
pub fn most(cx: &mut Cx, message: buffer_pb::Buffer) -> Option<u32> {
    let buffer_pb::Buffer { max_request_bytes } = message;
    let most = cx.required("max_request_bytes", max_request_bytes)?.value;
    if most == 0 {
        cx.error_at("max_request_bytes", "must be more than zero");
    }
    Some(most)
}

pub fn per_route(cx: &mut Cx, message: buffer_pb::BufferPerRoute) -> Option<FilterOverride> {
    use buffer_pb::buffer_per_route::Override;
    let buffer_pb::BufferPerRoute { r#override } = message;
    match cx.required("override", r#override)? {
        Override::Disabled(true) => Some(FilterOverride::Off),
        Override::Disabled(false) => {
            cx.error_at("disabled", "must be true");
            None
        }
        Override::Buffer(settings) => cx.field("buffer", |cx| most(cx, settings)).map(FilterOverride::Buffer),
    }
}
