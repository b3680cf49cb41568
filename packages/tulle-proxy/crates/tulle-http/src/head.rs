//! Heads of requests and responses, the same whichever HTTP version they arrived in or leave by.

use crate::h1::Limits;
use crate::headers::{Headers, Known, Span};

/// The protocol version of a message on its own connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    Http10,
    Http11,
    Http2,
}

impl Version {
    /// As access logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// How a message says where its body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// No body at all.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunked coding in HTTP/1.1, or END_STREAM in HTTP/2: length not known in advance.
    Delimited,
    /// Until the connection closes (responses over HTTP/1 only).
    Close,
}

impl Framing {
    pub fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }
}

/// What a request asks its connection to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tunnel {
    No,
    /// `Upgrade: websocket` over HTTP/1.1, or extended CONNECT with `:protocol websocket` over HTTP/2.
    WebSocket,
    /// Another `Upgrade` token; only some configurations allow these.
    Other,
    /// CONNECT: bytes to and from the authority (RFC 9110 §9.3.6).
    Connect,
}

impl Tunnel {
    /// Whether the protocol is changed by an `Upgrade` field.
    pub fn is_upgrade(self) -> bool {
        matches!(self, Tunnel::WebSocket | Tunnel::Other)
    }
}

/// A request's head. `clear` it and parse the next one into the same memory.
pub struct RequestHead {
    pub headers: Headers,
    method: Span,
    path: Span,
    authority: Span,
    /// `https`: by the client's request (absolute form or `:scheme`), or else by what is known of its connection.
    pub secure_scheme: bool,
    /// The request said its scheme itself.
    pub scheme_given: bool,
    pub version: Version,
    pub framing: Framing,
    pub tunnel: Tunnel,
    /// The client wants its connection closed afterwards.
    pub close: bool,
    /// `Expect: 100-continue` was asked for (and taken off).
    pub expect_continue: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        RequestHead {
            headers: Headers::default(),
            method: Span::default(),
            path: Span::default(),
            authority: Span::default(),
            secure_scheme: false,
            scheme_given: false,
            version: Version::Http11,
            framing: Framing::None,
            tunnel: Tunnel::No,
            close: false,
            expect_continue: false,
        }
    }
}

impl RequestHead {
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = RequestHead { headers, ..RequestHead::default() };
    }

    /// A second copy, for a retry that must start from the head as it was.
    pub fn copy_from(&mut self, other: &RequestHead) {
        self.headers.clone_from(&other.headers);
        self.method = other.method;
        self.path = other.path;
        self.authority = other.authority;
        self.secure_scheme = other.secure_scheme;
        self.scheme_given = other.scheme_given;
        self.version = other.version;
        self.framing = other.framing;
        self.tunnel = other.tunnel;
        self.close = other.close;
        self.expect_continue = other.expect_continue;
    }

    pub fn method(&self) -> &[u8] {
        self.headers.text(self.method)
    }

    /// Path and query, as `:path`.
    pub fn path(&self) -> &[u8] {
        self.headers.text(self.path)
    }

    /// Host and port, as `:authority`.
    pub fn authority(&self) -> &[u8] {
        self.headers.text(self.authority)
    }

    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    pub fn set_method(&mut self, method: &[u8]) {
        self.method = self.headers.put(method);
    }

    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.headers.put(path);
    }

    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = self.headers.put(authority);
    }

    /// Uses text that is already there as the method.
    pub(crate) fn set_method_span(&mut self, span: Span) {
        self.method = span;
    }

    /// Uses text that is already there as the path.
    pub(crate) fn set_path_span(&mut self, span: Span) {
        self.path = span;
    }

    /// Uses text that is already there (the Host field's value) as the authority.
    pub fn set_authority_span(&mut self, span: Span) {
        self.authority = span;
    }

    /// Takes a whole list over, with where the method, path and authority are in its text.
    pub fn set_list(&mut self, headers: Headers, (method, path, authority): (Span, Span, Span)) {
        self.headers = headers;
        (self.method, self.path, self.authority) = (method, path, authority);
    }

    pub fn is_grpc(&self) -> bool {
        self.headers.known(Known::ContentType).is_some_and(is_grpc_type)
    }
}

/// Whether a content type is gRPC's (not gRPC-Web).
pub fn is_grpc_type(value: &[u8]) -> bool {
    value.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

/// A response's head.
#[derive(Clone)]
pub struct ResponseHead {
    pub headers: Headers,
    pub status: u16,
    pub version: Version,
    pub framing: Framing,
    /// The upstream wants its connection closed afterwards.
    pub close: bool,
}

impl Default for ResponseHead {
    fn default() -> Self {
        ResponseHead {
            headers: Headers::default(),
            status: 200,
            version: Version::Http11,
            framing: Framing::None,
            close: false,
        }
    }
}

impl ResponseHead {
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = ResponseHead { headers, ..ResponseHead::default() };
    }

    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// Whether a final response follows, and this one means something to a client that does not know its connection:
    /// 100, 102 (RFC 2518 §10.1), 103 (RFC 8297) and 104 (resumable uploads), as Envoy has it.
    pub fn is_passable(&self) -> bool {
        matches!(self.status, 100 | 102..=104)
    }
}

/// Whether a response with this status to this method never has a body (RFC 9110 §6.4.1).
pub fn bodiless(status: u16, to_head: To) -> bool {
    to_head == To::Head || status == 204 || status == 304 || (100..200).contains(&status)
}

/// The kind of request a response answers, as far as framing cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    Head,
    Upgrade,
    Connect,
    Other,
}

/// What becomes of interim responses (1xx) before the final one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interim {
    Drop,
    Pass,
}

/// What waiting for a response needs to know.
#[derive(Clone, Copy)]
pub struct Expect<'a> {
    pub limits: &'a Limits,
    pub to: To,
    pub interim: Interim,
}
