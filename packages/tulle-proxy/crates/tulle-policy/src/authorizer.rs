//! External authorization: what of a request is shown, and what routes say of it.

use tulle_core::Str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyShown {
    pub max_bytes: usize,
    /// A longer body is shown in part; else such a request is refused.
    pub partial: bool,
    pub as_bytes: bool,
}

/// What a route says of the filter.
#[derive(Clone, Debug, Default)]
pub struct AuthorizerOverride {
    pub context: Box<[(Str, Str)]>,
    pub body: Option<Option<BodyShown>>,
}
