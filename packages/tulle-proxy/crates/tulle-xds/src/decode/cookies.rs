//! Cookies that the proxy gives to clients.

use envoy_types::pb::google::protobuf;
use tulle_core::Str;
use tulle_core::cookie::SetCookie;

use super::cx::Cx;

/// A cookie as messages of several types say it.
pub struct Written {
    pub name: String,
    pub path: String,
    pub ttl: Option<protobuf::Duration>,
    /// Names and values.
    pub attributes: Vec<(String, String)>,
}

/// The cookie, whose parts must be able to stand in a `set-cookie` field.
pub fn set_cookie(cx: &mut Cx, written: Written) -> Option<SetCookie> {
    let Written { name, path, ttl, attributes } = written;
    Some(SetCookie {
        name: token(cx, "name", &name)?,
        ttl: cx.duration("ttl", ttl).unwrap_or_default(),
        path: attribute_value(cx, "path", &path)?,
        attributes: cx
            .each("attributes", attributes, |cx, (name, value)| {
                Some((token(cx, "name", &name)?, attribute_value(cx, "value", &value)?))
            })
            .into(),
    })
}

/// A cookie's or header's name (RFC 9110 §5.6.2).
pub fn token(cx: &mut Cx, field: &str, name: &str) -> Option<Str> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        cx.error_at(field, format!("{name:?} is not a name"));
        return None;
    }
    Some(cx.intern(name))
}

/// What may stand in a cookie's attribute (RFC 6265 §4.1.1); may be empty.
fn attribute_value(cx: &mut Cx, field: &str, value: &str) -> Option<Str> {
    if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b';') {
        cx.error_at(field, format!("{value:?} cannot stand in a cookie"));
        return None;
    }
    Some(cx.intern(value))
}
