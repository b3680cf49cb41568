//! How the proxy's own answers are worded (`local_reply_config` of the connection manager).

use tulle_core::Str;
use tulle_route::HeaderMutations;

use crate::access_log::{LogFilter, LogFormat};

/// Changes to answers that no upstream gave.
#[derive(Clone, Debug, Default)]
pub struct LocalReply {
    /// The first whose filter takes the answer applies.
    pub mappers: Vec<Mapper>,
    /// For answers whose mapper has no format of its own.
    pub format: Option<BodyFormat>,
}

/// What becomes of answers that a filter takes.
#[derive(Clone, Debug)]
pub struct Mapper {
    pub filter: LogFilter,
    pub status: Option<u16>,
    pub body: Option<Box<[u8]>>,
    /// Only what it adds to the response is used.
    pub headers: HeaderMutations,
    pub format: Option<BodyFormat>,
}

/// How a body is made of an answer's text.
#[derive(Clone, Debug)]
pub struct BodyFormat {
    pub format: LogFormat,
    pub content_type: Str,
    /// In text: absent values give nothing instead of `-`.
    pub omit_absent: bool,
}
