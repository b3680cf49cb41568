//! HTTP/1.1 by RFC 9112, strictly: whatever two parties could frame differently is refused, never repaired.

pub mod body;
pub mod conn;
pub mod encode;
pub mod parse;
pub mod spelling;

pub use spelling::{Case, Reading};

/// Why a message was refused. The text is what details and logs show; it is Envoy's where Envoy has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Malformed start line or header.
    Syntax,
    /// A line ended in something other than CRLF.
    LineEnding,
    /// Content-Length with Transfer-Encoding, repeated or malformed lengths, unknown codings.
    Framing,
    /// No Host, several, or one that is not an authority.
    Host,
    /// A target that is neither origin, absolute nor asterisk form, or has forbidden bytes.
    Target,
    /// A method outside the registered ones.
    Method,
    /// Malformed chunk.
    Chunk,
    /// Neither HTTP/1.1 nor, where it is accepted, HTTP/1.0.
    Version,
    /// The request line is longer than the limit.
    LongTarget,
    /// The head is larger than the limit, or has too many headers.
    LargeHead,
    /// A header name with an underscore, where those are refused.
    Underscore,
    /// Connection names a field that no hop may take off.
    Nominated,
}

impl Refused {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Refused::Version => 426,
            Refused::LongTarget => 414,
            Refused::LargeHead => 431,
            _ => 400,
        }
    }

    /// As response code details.
    pub fn details(self) -> &'static str {
        match self {
            Refused::Syntax | Refused::LineEnding | Refused::Target | Refused::Method => "http1.codec_error",
            Refused::Framing => "http1.content_length_and_chunked_not_allowed",
            Refused::Host => "missing_host_header",
            Refused::Nominated => "http1.connection_header_rejected",
            Refused::Chunk => "http1.invalid_chunk",
            Refused::Version => "low_version",
            Refused::LongTarget => "http1.uri_too_long",
            Refused::LargeHead => "request_headers_too_large",
            Refused::Underscore => "unexpected_underscore",
        }
    }
}

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the whole head; Envoy's default is 60 KiB.
    pub head_bytes: usize,
    /// Bytes of the request line.
    pub line_bytes: usize,
    /// Number of headers, at most [`parse::MAX_HEADERS`].
    pub headers: usize,
    pub http10: Http10,
    pub underscores: Underscores,
    pub names: Reading,
    pub methods: Methods,
    pub targets: Targets,
}

/// Which methods requests may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Methods {
    Registered,
    /// Others too, as long as they are not registered ones in another case.
    Any,
}

/// Whether targets in absolute form are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Targets {
    Any,
    OriginOnly,
}

/// Whether HTTP/1.0 requests are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Http10 {
    Refuse,
    Accept,
    /// Also without a Host; whoever asked for it gives such a request its authority.
    AcceptWithoutHost,
}

/// What becomes of header names with underscores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Underscores {
    Allow,
    Drop,
    Refuse,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes: 60 * 1024,
            line_bytes: 32 * 1024,
            headers: 100,
            http10: Http10::Refuse,
            underscores: Underscores::Allow,
            names: Reading::Fold,
            methods: Methods::Registered,
            targets: Targets::Any,
        }
    }
}
