//! Envoy's `%OPERATOR(argument):max%` formats as operations that render into a buffer without allocating.

use std::time::Duration;

use tulle_core::{Str, UnixNanos, metadata};

use crate::shown::Shown;
use crate::strftime::TimeFormat;
use crate::view::{Field, HeadPart, LogView, Owner, TimePoint, Value};

/// Istio's default access-log line (`pilot/pkg/networking/util`, `EnvoyTextLogFormat`).
pub const ISTIO_TEXT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);

/// Why a format was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {reason}")]
pub struct FormatError {
    /// Offset into the format.
    pub at: usize,
    pub reason: String,
}

/// A compiled text format: an access-log line or a header value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextFormat {
    pub(crate) ops: Box<[Op]>,
    /// Absent values leave nothing in a line.
    omit_absent: bool,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Literal(Str),
    Operator { source: Source, max: Option<usize> },
}

/// Where an operator takes its value from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Header {
        part: HeadPart,
        name: Str,
        alternative: Option<Str>,
        query: Query,
    },
    Field(Field),
    /// A parameter of the request's query, by its name.
    QueryParameter(Str),
    /// One half of an address field.
    Address {
        field: Field,
        half: AddressHalf,
    },
    FlagsLong,
    GrpcStatus(GrpcStyle),
    StartTime(TimeFormat),
    /// When the line is written, which is when the exchange has ended.
    EmitTime(TimeFormat),
    Elapsed {
        from: TimePoint,
        to: TimePoint,
        unit: Unit,
    },
    /// A field that is a time.
    Time {
        field: Field,
        format: TimeFormat,
    },
    Metadata {
        owner: Owner,
        namespace: Str,
        path: Box<[Str]>,
    },
    /// A variable of the process's environment, by its name.
    Environment(Str),
    Number(u64),
    Nothing,
}

/// Whether a header operator keeps the query of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    Keep,
    Strip,
    /// The query alone.
    Only,
}

/// Half of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressHalf {
    Ip,
    Port,
}

/// How `%GRPC_STATUS%` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStyle {
    Camel,
    Snake,
    Number,
}

/// Unit of a duration operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

const GRPC_NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

impl TextFormat {
    /// Plain text, with no operators looked for.
    pub fn literal(text: &str) -> Self {
        TextFormat { ops: Box::new([Op::Literal(text.into())]), omit_absent: false }
    }

    /// Compiles Envoy's format syntax.
    pub fn parse(format: &str) -> Result<Self, FormatError> {
        crate::compile::compile(format, None).map(TextFormat::of)
    }

    /// Compiles the format of a log: operators of Envoy's that nothing here has the value of print as absent, and are
    /// added to `unwritten` as they stand.
    pub fn parse_log(format: &str, unwritten: &mut Vec<String>) -> Result<Self, FormatError> {
        crate::compile::compile(format, Some(unwritten)).map(TextFormat::of)
    }

    fn of(ops: Vec<Op>) -> Self {
        TextFormat { ops: ops.into(), omit_absent: false }
    }

    /// The same, with lines in which absent values leave nothing (`omit_empty_values`).
    #[must_use]
    pub fn omitting(self) -> Self {
        TextFormat { omit_absent: true, ..self }
    }

    /// The text when there are no operators, so that a caller can skip rendering.
    pub fn as_literal(&self) -> Option<&str> {
        match &*self.ops {
            [] => Some(""),
            [Op::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the rendered line; absent values print as `-`, or not at all, and outside bytes that could end a line or
    /// a quoted field are written as `\xHH`.
    pub fn render<V: LogView + ?Sized>(&self, view: &V, out: &mut Vec<u8>) {
        for op in &self.ops {
            match op {
                Op::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Op::Operator { source, max } => match source.show(view) {
                    Shown::Value(Value::None) if self.omit_absent => {}
                    shown => shown.write_text(*max, out),
                },
            }
        }
    }

    /// Appends a message's body: outside bytes stand as they are, absent values as `-`, or not at all.
    pub fn render_body<V: LogView + ?Sized>(&self, view: &V, omit_absent: bool, out: &mut Vec<u8>) {
        for op in &self.ops {
            match op {
                Op::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Op::Operator { source, max } => match source.show(view) {
                    Shown::Value(Value::None) if omit_absent => {}
                    Shown::Value(Value::Bytes(bytes)) => out.extend_from_slice(clip(bytes, *max)),
                    Shown::Encoded(bytes) => out.extend_from_slice(clip(&decoded(bytes), *max)),
                    shown => shown.write_text(*max, out),
                },
            }
        }
    }

    /// Appends a header value: absent operators give nothing, and bytes that may not stand in a field are dropped.
    pub fn render_header<V: LogView + ?Sized>(&self, view: &V, out: &mut Vec<u8>) {
        for op in &self.ops {
            match op {
                Op::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Op::Operator { source, max } => match source.show(view) {
                    Shown::Value(Value::None) => {}
                    Shown::Value(Value::Bytes(bytes)) => {
                        out.extend(clip(bytes, *max).iter().filter(|byte| field_byte(**byte)));
                    }
                    Shown::Encoded(bytes) => {
                        out.extend(clip(&decoded(bytes), *max).iter().filter(|byte| field_byte(**byte)));
                    }
                    shown => shown.write_text(*max, out),
                },
            }
        }
    }
}

/// Bytes of a header field's value (RFC 9110 §5.5).
fn field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

pub(crate) fn clip(bytes: &[u8], max: Option<usize>) -> &[u8] {
    &bytes[..max.map_or(bytes.len(), |max| max.min(bytes.len()))]
}

impl Source {
    pub(crate) fn show<'a, V: LogView + ?Sized>(&'a self, view: &'a V) -> Shown<'a> {
        Shown::Value(match self {
            Source::Header { part, name, alternative, query } => header(view, *part, name, alternative, *query),
            Source::Field(field) => view.field(*field),
            Source::QueryParameter(name) => return parameter(view, name),
            Source::Address { field, half } => half.of(view.field(*field)),
            Source::FlagsLong => match view.field(Field::ResponseFlags) {
                Value::Flags(flags) if !flags.is_empty() => return Shown::FlagsLong(flags),
                _ => return Shown::Plain("-"),
            },
            Source::GrpcStatus(style) => return style.of(view.field(Field::GrpcStatusNumber)),
            Source::StartTime(format) => return Shown::Time(format, view.start_time()),
            Source::EmitTime(format) => {
                let since = view.elapsed(TimePoint::Complete).unwrap_or_default();
                let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
                return Shown::Time(format, UnixNanos(view.start_time().0.saturating_add(since)));
            }
            Source::Time { field, format } => match view.field(*field) {
                Value::Time(time) => return Shown::Time(format, time),
                _ => Value::None,
            },
            Source::Elapsed { from, to, unit } => match (view.elapsed(*from), view.elapsed(*to)) {
                (Some(from), Some(to)) => Value::Number(unit.count(to.saturating_sub(from))),
                _ => Value::None,
            },
            Source::Metadata { owner, namespace, path } => return found(view.metadata(*owner), namespace, path),
            Source::Environment(name) => {
                let value = std::env::var_os(&**name).unwrap_or_else(|| "-".into());
                return Shown::Owned(value.into_encoded_bytes());
            }
            Source::Number(number) => Value::Number(*number),
            Source::Nothing => Value::None,
        })
    }
}

/// The value at `path` under `namespace`, or all that is under it.
fn found<'a>(metadata: Option<&'a metadata::Metadata>, namespace: &str, path: &[Str]) -> Shown<'a> {
    let value = match metadata {
        Some(metadata) if path.is_empty() => {
            return metadata.filter(namespace).map_or(Shown::Value(Value::None), Shown::Struct);
        }
        Some(metadata) => metadata.lookup(namespace, path),
        None => None,
    };
    match value {
        Some(metadata::Value::String(text)) => Shown::Value(Value::from(&**text)),
        Some(value) => Shown::Metadata(value),
        None => Shown::Value(Value::None),
    }
}

fn header<'a, V: LogView + ?Sized>(
    view: &'a V,
    part: HeadPart,
    name: &str,
    alternative: &Option<Str>,
    query: Query,
) -> Value<'a> {
    let found = view.header(part, name).or_else(|| view.header(part, alternative.as_deref()?));
    let Some(value) = found else { return Value::None };
    match query {
        Query::Keep => Value::Bytes(value),
        Query::Strip => Value::Bytes(value.split(|byte| *byte == b'?').next().unwrap_or(value)),
        Query::Only => match value.iter().position(|byte| *byte == b'?') {
            Some(at) if at + 1 < value.len() => Value::Bytes(&value[at + 1..]),
            _ => Value::None,
        },
    }
}

/// The first parameter of the request's query whose name, decoded, is `wanted`.
fn parameter<'a, V: LogView + ?Sized>(view: &'a V, wanted: &str) -> Shown<'a> {
    let path = view.header(HeadPart::Request, ":path").unwrap_or_default();
    let query = path.iter().position(|byte| *byte == b'?').map_or(&b""[..], |at| &path[at + 1..]);
    let found = query.split(|byte| *byte == b'&').find_map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (decoded(&pair[..end]) == wanted.as_bytes()).then(|| pair.get(end + 1..).unwrap_or_default())
    });
    found.map_or(Shown::Value(Value::None), Shown::Encoded)
}

/// A part of a query as the application reads it: `+` is a blank, `%` and two digits are a byte.
pub(crate) fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

impl AddressHalf {
    fn of(self, value: Value<'_>) -> Value<'_> {
        match (self, value) {
            (AddressHalf::Ip, Value::Socket(socket)) => Value::Ip(socket.ip()),
            (AddressHalf::Port, Value::Socket(socket)) => Value::Number(u64::from(socket.port())),
            (AddressHalf::Port, _) => Value::None,
            (AddressHalf::Ip, Value::Bytes(name)) => match name.iter().rposition(|byte| *byte == b':') {
                Some(at) if name[at + 1..].iter().all(u8::is_ascii_digit) => Value::Bytes(&name[..at]),
                _ => value,
            },
            (AddressHalf::Ip, other) => other,
        }
    }
}

impl GrpcStyle {
    fn of(self, value: Value<'_>) -> Shown<'_> {
        let Value::Number(number) = value else { return Shown::Value(Value::None) };
        match (self, GRPC_NAMES.get(number as usize)) {
            (GrpcStyle::Camel, Some((camel, _))) => Shown::Plain(camel),
            (GrpcStyle::Snake, Some((_, snake))) => Shown::Plain(snake),
            _ => Shown::Value(Value::Number(number)),
        }
    }
}

impl Unit {
    fn count(self, duration: Duration) -> u64 {
        let count = match self {
            Unit::Milliseconds => duration.as_millis(),
            Unit::Microseconds => duration.as_micros(),
            Unit::Nanoseconds => duration.as_nanos(),
        };
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}
