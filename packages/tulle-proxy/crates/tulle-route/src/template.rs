//! URI templates (`envoy.path.match.uri_template` and its rewrite), as segments.

use tulle_core::Str;

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Literal(Str),
    /// `*` or `{name}`: within one segment.
    Segment(Option<Str>),
    /// `**` or `{name=**}`: any number of segments.
    Rest(Option<Str>),
}

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    pub source: Str,
    pub pieces: Box<[Piece]>,
}

impl PathTemplate {
    /// Whether the template takes the whole path.
    pub fn matches(&self, path: &str) -> bool {
        path == &*self.source
    }
}
