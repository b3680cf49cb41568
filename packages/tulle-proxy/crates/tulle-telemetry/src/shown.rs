//! A value between the view that gave it and the line it is written into.

use tulle_core::{UnixNanos, metadata};

use crate::format::{clip, decoded};
use crate::strftime::TimeFormat;
use crate::view::Value;
use crate::{json, text};

/// A value on its way into a line: what a view gave, or something computed from it.
pub(crate) enum Shown<'a> {
    Value(Value<'a>),
    /// Our own text, which needs no escaping.
    Plain(&'static str),
    Time(&'a TimeFormat, UnixNanos),
    Metadata(&'a metadata::Value),
    Struct(&'a metadata::Struct),
    Owned(Vec<u8>),
    /// A part of a query, still encoded.
    Encoded(&'a [u8]),
    FlagsLong(tulle_core::ResponseFlags),
}

impl Shown<'_> {
    /// Into a text line.
    pub(crate) fn write_text(&self, max: Option<usize>, out: &mut Vec<u8>) {
        match self {
            Shown::Value(Value::None) => out.push(b'-'),
            Shown::Value(Value::Bytes(bytes)) => text::escaped(clip(bytes, max), out),
            Shown::Encoded(bytes) => text::escaped(clip(&decoded(bytes), max), out),
            other => other.write_own(max, out),
        }
    }

    /// Writes what is ours (numbers, addresses, times), clipped; never called for outside bytes.
    pub(crate) fn write_own(&self, max: Option<usize>, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Shown::Value(value) => write_value(value, out),
            Shown::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Shown::Time(format, time) => format.write(*time, out),
            Shown::Metadata(value) => json::write_metadata(value, out),
            Shown::Struct(fields) => json::write_struct(fields, out),
            Shown::Owned(bytes) => text::escaped(bytes, out),
            Shown::Encoded(bytes) => text::escaped(&decoded(bytes), out),
            Shown::FlagsLong(flags) => write_list(flags.long_names(), out),
        }
        if let Some(max) = max {
            out.truncate(start + max.min(out.len() - start));
        }
    }
}

fn write_list(items: impl Iterator<Item = &'static str>, out: &mut Vec<u8>) {
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item.as_bytes());
    }
}

fn write_value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::None => out.push(b'-'),
        Value::Bytes(bytes) => text::escaped(bytes, out),
        Value::Number(number) => text::number(*number, out),
        Value::Socket(socket) => text::socket(socket, out),
        Value::Ip(ip) => text::ip(ip, out),
        Value::Time(time) => TimeFormat::default().write(*time, out),
        Value::Hex(number, digits) => out.extend_from_slice(format!("{number:0digits$x}").as_bytes()),
        Value::Flags(flags) if flags.is_empty() => out.push(b'-'),
        Value::Flags(flags) => write_list(flags.codes(), out),
    }
}
