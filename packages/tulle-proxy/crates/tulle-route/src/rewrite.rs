//! Rewritten paths and authorities, redirect locations: text in, text out.

use tulle_core::Str;

/// A compiled RE2 substitution (`\0`…`\9`, `\\`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitution {
    pub pieces: Box<[SubstitutionPiece]>,
}

/// Literal text or a captured group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubstitutionPiece {
    Literal(Str),
    Capture(usize),
}
