//! JSON access logs: a tree of literals and formats, rendered as one valid line.

use tulle_core::{Str, metadata};

use crate::format::{FormatError, Op, TextFormat, clip, decoded};
use crate::shown::Shown;
use crate::text::{self, is_plain};
use crate::view::{LogView, Value};

/// A `json_format` before compilation, as decoded from a protobuf `Struct`.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonTemplate {
    Null,
    Bool(bool),
    Number(f64),
    /// A format; when it is a single operator, its value keeps its type.
    Text(String),
    List(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
}

/// What becomes of members and items whose operator has no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absent {
    /// `null`, and `-` inside a longer text.
    #[default]
    Null,
    /// They are left out (`omit_empty_values`).
    Omit,
}

/// A compiled JSON format.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonFormat {
    root: Node,
    absent: Absent,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// Already JSON.
    Literal(Str),
    Typed(Op),
    Text(TextFormat),
    List(Box<[Node]>),
    /// Keys are already quoted, with their colon.
    Object(Box<[(Str, Node)]>),
}

impl JsonFormat {
    /// Compiles; the first bad format is an error. `unwritten` is as in `TextFormat::parse_log`.
    pub fn compile(template: &JsonTemplate, absent: Absent, unwritten: &mut Vec<String>) -> Result<Self, FormatError> {
        Ok(JsonFormat { root: Node::compile(template, unwritten)?, absent })
    }

    /// Appends one line of JSON with its newline.
    pub fn render<V: LogView + ?Sized>(&self, view: &V, out: &mut Vec<u8>) {
        self.root.write(view, self.absent, out);
        out.push(b'\n');
    }
}

impl Node {
    fn compile(template: &JsonTemplate, unwritten: &mut Vec<String>) -> Result<Node, FormatError> {
        Ok(match template {
            JsonTemplate::Null => Node::Literal("null".into()),
            JsonTemplate::Bool(value) => Node::Literal(value.to_string().into()),
            JsonTemplate::Number(value) if value.is_finite() => Node::Literal(value.to_string().into()),
            JsonTemplate::Number(_) => Node::Literal("null".into()),
            JsonTemplate::Text(format) => Node::text(TextFormat::parse_log(format, unwritten)?),
            JsonTemplate::List(items) => {
                Node::List(items.iter().map(|item| Node::compile(item, unwritten)).collect::<Result<_, _>>()?)
            }
            JsonTemplate::Object(members) => Node::Object(
                members
                    .iter()
                    .map(|(key, value)| Ok((quoted(key, ":"), Node::compile(value, unwritten)?)))
                    .collect::<Result<_, FormatError>>()?,
            ),
        })
    }

    fn text(format: TextFormat) -> Node {
        match (&*format.ops, format.as_literal()) {
            (_, Some(text)) => Node::Literal(quoted(text, "")),
            ([op], None) => Node::Typed(op.clone()),
            _ => Node::Text(format),
        }
    }

    fn write<V: LogView + ?Sized>(&self, view: &V, absent: Absent, out: &mut Vec<u8>) {
        match self {
            Node::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Node::Typed(op) => write_typed(op, view, out),
            Node::Text(format) => write_text(format, view, absent, out),
            Node::List(items) => {
                out.push(b'[');
                let shown = items.iter().filter(|item| absent != Absent::Omit || !item.is_absent(view));
                for (position, item) in shown.enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    item.write(view, absent, out);
                }
                out.push(b']');
            }
            Node::Object(members) => write_object(members, view, absent, out),
        }
    }

    fn is_absent<V: LogView + ?Sized>(&self, view: &V) -> bool {
        match self {
            Node::Typed(Op::Operator { source, .. }) => matches!(source.show(view), Shown::Value(Value::None)),
            _ => false,
        }
    }
}

fn write_object<V: LogView + ?Sized>(members: &[(Str, Node)], view: &V, absent: Absent, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for (key, node) in members {
        if absent == Absent::Omit && node.is_absent(view) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(key.as_bytes());
        node.write(view, absent, out);
    }
    out.push(b'}');
}

/// A single operator: numbers stay numbers, absent values are `null`.
fn write_typed<V: LogView + ?Sized>(op: &Op, view: &V, out: &mut Vec<u8>) {
    let Op::Operator { source, max } = op else { return };
    match source.show(view) {
        Shown::Value(Value::None) => out.extend_from_slice(b"null"),
        Shown::Value(Value::Number(number)) => text::number(number, out),
        Shown::Metadata(value) => write_metadata(value, out),
        Shown::Struct(fields) => write_struct(fields, out),
        shown => {
            out.push(b'"');
            write_part(&shown, *max, out);
            out.push(b'"');
        }
    }
}

fn write_text<V: LogView + ?Sized>(format: &TextFormat, view: &V, absent: Absent, out: &mut Vec<u8>) {
    out.push(b'"');
    for op in &format.ops {
        match op {
            Op::Literal(text) => escape(text.as_bytes(), out),
            Op::Operator { source, max } => match (source.show(view), absent) {
                (Shown::Value(Value::None), Absent::Omit) => {}
                (shown, _) => write_part(&shown, *max, out),
            },
        }
    }
    out.push(b'"');
}

/// Inside quotes. What is ours has nothing to escape, but for a time format's literals, which are rare.
fn write_part(shown: &Shown<'_>, max: Option<usize>, out: &mut Vec<u8>) {
    match shown {
        Shown::Value(Value::Bytes(bytes)) => escape(clip(bytes, max), out),
        Shown::Encoded(bytes) => escape(clip(&decoded(bytes), max), out),
        other => {
            let start = out.len();
            other.write_own(max, out);
            if !is_plain(&out[start..]) {
                let raw = out.split_off(start);
                escape(&raw, out);
            }
        }
    }
}

/// A value of metadata as JSON.
pub(crate) fn write_metadata(value: &metadata::Value, out: &mut Vec<u8>) {
    match value {
        metadata::Value::Null => out.extend_from_slice(b"null"),
        metadata::Value::Bool(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        metadata::Value::Number(number) if number.is_finite() => out.extend_from_slice(number.to_string().as_bytes()),
        metadata::Value::Number(_) => out.extend_from_slice(b"null"),
        metadata::Value::String(text) => out.extend_from_slice(quoted(text, "").as_bytes()),
        metadata::Value::List(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_metadata(item, out);
            }
            out.push(b']');
        }
        metadata::Value::Struct(fields) => write_struct(fields, out),
    }
}

pub(crate) fn write_struct(fields: &metadata::Struct, out: &mut Vec<u8>) {
    out.push(b'{');
    for (position, (key, value)) in fields.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(quoted(key, ":").as_bytes());
        write_metadata(value, out);
    }
    out.push(b'}');
}

fn quoted(text: &str, after: &str) -> Str {
    let mut out = vec![b'"'];
    escape(text.as_bytes(), &mut out);
    out.push(b'"');
    out.extend_from_slice(after.as_bytes());
    String::from_utf8(out).expect("escaped text is UTF-8").into()
}

/// Escapes for a JSON string (RFC 8259 §7); what is not UTF-8 becomes U+FFFD.
pub(crate) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..0x20 | 0x7f => {
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
                _ => out.push(byte),
            }
        }
        // As Envoy: bytes that are no text stand for the characters of those numbers.
        for &byte in chunk.invalid() {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}
