//! Heads to HTTP/1.1 bytes, and the framing of outgoing bodies.

use crate::head::{Framing, RequestHead, ResponseHead, Tunnel};
use crate::headers::{Classes, Known};

use super::spelling::{Case, Spelling};

/// Whether the connection that a head leaves by ends with this message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Keep,
    Close,
    /// Keep, and say so, to an HTTP/1.0 client that asked for it.
    KeepAlive,
    /// Becomes a tunnel: `connection: upgrade`.
    Upgrade,
    /// Becomes a tunnel without a word: CONNECT.
    Tunnel,
}

/// Hop-by-hop fields that never pass (RFC 9110 §7.6.1); Upgrade passes only with [`Fate::Upgrade`].
pub const HOP_BY_HOP: Classes = Classes::of(&[
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::Http2Settings,
    Known::ContentLength,
    Known::Host,
]);

pub fn hop_by_hop(known: Known) -> bool {
    HOP_BY_HOP.contains(known)
}

/// More than what a head has beside its fields.
const ROOM: usize = 128;

/// A number as decimal text, without memory of its own.
pub struct Digits {
    text: [u8; 20],
    at: u8,
}

impl Digits {
    pub fn of(mut n: u64) -> Digits {
        let (mut text, mut at) = ([0; 20], 20);
        loop {
            at -= 1;
            text[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return Digits { text, at: at as u8 };
            }
        }
    }
}

impl std::ops::Deref for Digits {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.text[usize::from(self.at)..]
    }
}

/// Appends a decimal number.
pub fn decimal(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&Digits::of(n));
}

/// Appends a request head in origin form; of CONNECT in authority form. `case` is the connection's.
pub fn request(out: &mut Vec<u8>, head: &RequestHead, fate: Fate, case: Case) {
    let spelling = Spelling::of(head.headers.spelled(), case);
    out.reserve(head.headers.all_text().len() + ROOM);
    out.extend_from_slice(head.method());
    out.push(b' ');
    out.extend_from_slice(if head.tunnel == Tunnel::Connect { head.authority() } else { head.path() });
    out.extend_from_slice(b" HTTP/1.1\r\n");
    spelling.line(out, b"host: ");
    out.extend_from_slice(head.authority());
    out.extend_from_slice(b"\r\n");
    let upgrade = fate == Fate::Upgrade;
    head.headers.write_lines(out, spelling, |known| !hop_by_hop(known) || (known == Known::Upgrade && upgrade));
    // Of every other method a server may expect a body (RFC 9110 §8.6), so it is told that there is none.
    let says_nothing = matches!(head.method(), b"GET" | b"HEAD" | b"DELETE" | b"TRACE" | b"CONNECT");
    match head.framing {
        Framing::None if !says_nothing => spelling.line(out, b"content-length: 0\r\n"),
        Framing::None => {}
        _ => framing(out, head.framing, spelling),
    }
    connection(out, fate, spelling);
    out.extend_from_slice(b"\r\n");
}

/// Appends a response head. A response to HEAD keeps the Content-Length it declares, though it has no body here.
pub fn response(out: &mut Vec<u8>, head: &ResponseHead, fate: Fate, case: Case) {
    let spelling = Spelling::of(head.headers.spelled(), case);
    out.reserve(head.headers.all_text().len() + ROOM);
    if head.status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        decimal(out, u64::from(head.status));
        out.push(b' ');
        out.extend_from_slice(reason(head.status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let declared = head.framing == Framing::None && !no_length(head.status);
    head.headers.write_lines(out, spelling, |known| match known {
        Known::ContentLength => declared,
        Known::Upgrade => fate == Fate::Upgrade,
        known => !hop_by_hop(known),
    });
    framing(out, head.framing, spelling);
    connection(out, fate, spelling);
    out.extend_from_slice(b"\r\n");
}

/// Statuses whose head must not carry a Content-Length (RFC 9110 §8.6).
fn no_length(status: u16) -> bool {
    status == 204 || (100..200).contains(&status)
}

fn framing(out: &mut Vec<u8>, framing: Framing, spelling: Spelling<'_>) {
    match framing {
        Framing::None | Framing::Close => {}
        Framing::Length(n) => {
            spelling.line(out, b"content-length: ");
            decimal(out, n);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Delimited => spelling.line(out, b"transfer-encoding: chunked\r\n"),
    }
}

fn connection(out: &mut Vec<u8>, fate: Fate, spelling: Spelling<'_>) {
    match fate {
        Fate::Keep | Fate::Tunnel => {}
        Fate::Close => spelling.line(out, b"connection: close\r\n"),
        Fate::KeepAlive => spelling.line(out, b"connection: keep-alive\r\n"),
        Fate::Upgrade => spelling.line(out, b"connection: Upgrade\r\n"),
    }
}

/// Appends the line before a chunk's data.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (4 * place) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The standard reason phrase, or an empty one.
pub fn reason(status: u16) -> &'static str {
    match http::StatusCode::from_u16(status) {
        Ok(code) => code.canonical_reason().unwrap_or(""),
        Err(_) => "",
    }
}
