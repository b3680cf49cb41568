//! Envoy's `%OPERATOR(argument):max%` formats, compiled once into operations that render without allocating.

use tulle_core::Str;

use crate::view::{Field, HeadPart, LogView, TimePoint};

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
    ops: Box<[Op]>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Literal(Str),
    Header { part: HeadPart, name: Str, alternative: Option<Str>, max: Option<usize> },
    Field { field: Field, max: Option<usize> },
    /// Milliseconds (or finer) between two points.
    Elapsed { from: Option<TimePoint>, to: TimePoint },
}

impl TextFormat {
    /// Plain text, with no operators looked for.
    pub fn literal(text: &str) -> Self {
        TextFormat { ops: Box::new([Op::Literal(text.into())]) }
    }

    /// Compiles Envoy's format syntax.
    pub fn parse(_format: &str) -> Result<Self, FormatError> {
        Ok(TextFormat::default())
    }

    /// Appends the rendered text; header and other outside values are escaped so that they cannot start a new line.
    pub fn render<V: LogView + ?Sized>(&self, _view: &V, _out: &mut Vec<u8>) {}

    /// Appends a header value: absent operators give nothing, and bytes that may not stand in a field are dropped.
    pub fn render_header<V: LogView + ?Sized>(&self, _view: &V, _out: &mut Vec<u8>) {}
}
