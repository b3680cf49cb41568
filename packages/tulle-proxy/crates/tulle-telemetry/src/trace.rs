//! Trace context: B3 (several headers or one) and W3C `traceparent`, parsed, started and passed on.
//!
//! A malformed context never fails a request: it is dropped and a new trace begins.

use tulle_core::{Headers, HeadersMut, Rng, Str, UnixNanos};

/// Whether a trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    Record,
    Skip,
    /// B3 debug: recorded whatever the sampling rate.
    Debug,
}

/// The wire format a context came in, so that it goes out in the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    B3Multi,
    B3Single,
    W3c,
}

/// A position in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 128 bits; a 64-bit B3 id has a zero upper half and goes out with 16 digits.
    pub trace_id: u128,
    pub span_id: u64,
    pub parent_id: Option<u64>,
    /// `None` leaves the decision to us (B3 without `X-B3-Sampled`).
    pub sampling: Option<Sampling>,
    pub format: Format,
    short_id: bool,
}

/// A finished span, for an exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord {
    pub context: TraceContext,
    pub operation: Str,
    pub kind: SpanKind,
    pub start: UnixNanos,
    pub end: UnixNanos,
    pub status: u16,
    /// Names and values as Envoy tags spans (`http.method`, `upstream_cluster`, …).
    pub tags: Vec<(&'static str, Str)>,
}

/// Which side of a call a span describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    Server,
    Client,
}

/// Lower- or upper-case hex of exactly `digits` digits; zero is not an id.
fn hex(text: &[u8], digits: usize) -> Option<u128> {
    if text.len() != digits || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok().filter(|id| *id != 0)
}

fn trace_id(text: &[u8]) -> Option<(u128, bool)> {
    match text.len() {
        16 => hex(text, 16).map(|id| (id, true)),
        _ => hex(text, 32).map(|id| (id, false)),
    }
}

fn span_id(text: &[u8]) -> Option<u64> {
    hex(text, 16).map(|id| id as u64)
}

fn b3_sampling(text: &[u8]) -> Option<Option<Sampling>> {
    Some(Some(match text {
        b"1" | b"true" => Sampling::Record,
        b"0" | b"false" => Sampling::Skip,
        b"d" => Sampling::Debug,
        _ => return None,
    }))
}

impl TraceContext {
    /// Reads the context of a request: `traceparent`, then `b3`, then `x-b3-*`. Malformed ones count as absent.
    pub fn extract<H: Headers + ?Sized>(headers: &H) -> Option<Self> {
        let w3c = headers.header("traceparent").and_then(Self::parse_w3c);
        let single = || headers.header("b3").and_then(Self::parse_b3_single);
        w3c.or_else(single).or_else(|| Self::parse_b3_multi(headers))
    }

    /// Whether a header of this lower-case name tells of a trace, in any of the forms that are read.
    pub fn names(name: &[u8]) -> bool {
        matches!(name, b"traceparent" | b"tracestate" | b"b3") || name.starts_with(b"x-b3-")
    }

    /// W3C Trace Context §3.2: version, trace id, parent id, flags; a later version may have more after them.
    pub fn parse_w3c(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let mut parts = text.split(|byte| *byte == b'-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lower = |part: &[u8]| !part.iter().any(u8::is_ascii_uppercase);
        let two = |part: &[u8]| part.len() == 2 && part.iter().all(u8::is_ascii_hexdigit);
        let strict_end = version != b"00" || parts.next().is_none();
        if !two(version) || version == b"ff" || !two(flags) || !lower(text) || !strict_end {
            return None;
        }
        let flags = u8::from_str_radix(std::str::from_utf8(flags).ok()?, 16).ok()?;
        let sampling = if flags & 1 == 1 { Sampling::Record } else { Sampling::Skip };
        Some(TraceContext {
            trace_id: hex(trace, 32)?,
            span_id: span_id(span)?,
            parent_id: None,
            sampling: Some(sampling),
            format: Format::W3c,
            short_id: false,
        })
    }

    /// `{trace}-{span}[-{sampling}[-{parent}]]`; a lone sampling decision is no context.
    pub fn parse_b3_single(text: &[u8]) -> Option<Self> {
        let mut parts = text.trim_ascii().split(|byte| *byte == b'-');
        let (trace_id, short_id) = trace_id(parts.next()?)?;
        let span_id = span_id(parts.next()?)?;
        let sampling = parts.next().map_or(Some(None), b3_sampling)?;
        let parent_id = match parts.next() {
            Some(parent) => Some(self::span_id(parent)?),
            None => None,
        };
        let done = parts.next().is_none();
        done.then_some(TraceContext { trace_id, span_id, parent_id, sampling, format: Format::B3Single, short_id })
    }

    fn parse_b3_multi<H: Headers + ?Sized>(headers: &H) -> Option<Self> {
        let (trace_id, short_id) = trace_id(headers.header("x-b3-traceid")?)?;
        let debug = headers.header("x-b3-flags") == Some(b"1");
        let sampled = headers.header("x-b3-sampled").and_then(b3_sampling).flatten();
        Some(TraceContext {
            trace_id,
            span_id: span_id(headers.header("x-b3-spanid")?)?,
            parent_id: headers.header("x-b3-parentspanid").and_then(span_id),
            sampling: if debug { Some(Sampling::Debug) } else { sampled },
            format: Format::B3Multi,
            short_id,
        })
    }

    /// A new trace of 128 bits.
    pub fn fresh(format: Format, sampling: Sampling, rng: &mut Rng) -> Self {
        TraceContext {
            trace_id: u128::from(nonzero(rng)) << 64 | u128::from(nonzero(rng)),
            span_id: nonzero(rng),
            parent_id: None,
            sampling: Some(sampling),
            format,
            short_id: false,
        }
    }

    /// A child position in the same trace.
    pub fn child(&self, rng: &mut Rng) -> Self {
        TraceContext { span_id: nonzero(rng), parent_id: Some(self.span_id), ..*self }
    }

    pub fn recorded(&self) -> bool {
        matches!(self.sampling, Some(Sampling::Record | Sampling::Debug))
    }

    /// Writes the context into a request's head, in the format in which it came.
    pub fn inject<H: HeadersMut + ?Sized>(&self, headers: &mut H) {
        match self.format {
            Format::W3c => self.inject_w3c(headers),
            Format::B3Single => self.inject_b3_single(headers),
            Format::B3Multi => self.inject_b3_multi(headers),
        }
    }

    fn inject_w3c<H: HeadersMut + ?Sized>(&self, headers: &mut H) {
        let mut text = Text::new();
        text.push(b"00-").hex(self.trace_id, 32).push(b"-").hex(u128::from(self.span_id), 16);
        text.push(if self.recorded() { b"-01" } else { b"-00" });
        headers.set("traceparent", text.bytes());
    }

    fn inject_b3_single<H: HeadersMut + ?Sized>(&self, headers: &mut H) {
        let mut text = Text::new();
        text.hex(self.trace_id, self.trace_digits()).push(b"-").hex(u128::from(self.span_id), 16);
        if let Some(sampling) = self.sampling {
            text.push(b"-").push(sampling.code());
            if let Some(parent) = self.parent_id {
                text.push(b"-").hex(u128::from(parent), 16);
            }
        }
        headers.set("b3", text.bytes());
    }

    fn inject_b3_multi<H: HeadersMut + ?Sized>(&self, headers: &mut H) {
        headers.set("x-b3-traceid", Text::new().hex(self.trace_id, self.trace_digits()).bytes());
        headers.set("x-b3-spanid", Text::new().hex(u128::from(self.span_id), 16).bytes());
        match self.parent_id {
            Some(parent) => headers.set("x-b3-parentspanid", Text::new().hex(u128::from(parent), 16).bytes()),
            None => headers.remove("x-b3-parentspanid"),
        }
        match self.sampling {
            Some(Sampling::Debug) => headers.set("x-b3-flags", b"1"),
            Some(sampling) => headers.set("x-b3-sampled", sampling.code()),
            None => headers.remove("x-b3-sampled"),
        }
    }

    fn trace_digits(&self) -> usize {
        if self.short_id { 16 } else { 32 }
    }
}

impl Sampling {
    fn code(self) -> &'static [u8] {
        match self {
            Sampling::Record => b"1",
            Sampling::Skip => b"0",
            Sampling::Debug => b"d",
        }
    }
}

fn nonzero(rng: &mut Rng) -> u64 {
    rng.next_u64().max(1)
}

/// A header value being built on the stack; 80 bytes hold the longest context (32 + 16 + 1 + 16 digits and dashes).
struct Text {
    bytes: [u8; 80],
    length: usize,
}

impl Text {
    fn new() -> Self {
        Text { bytes: [0; 80], length: 0 }
    }

    fn push(&mut self, text: &[u8]) -> &mut Self {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
        self
    }

    fn hex(&mut self, id: u128, digits: usize) -> &mut Self {
        for digit in (0..digits).rev() {
            let nibble = (id >> (digit * 4)) as usize & 15;
            self.push(&b"0123456789abcdef"[nibble..=nibble]);
        }
        self
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
