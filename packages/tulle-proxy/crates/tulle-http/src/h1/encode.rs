//! Heads to HTTP/1.1 bytes, and the framing of outgoing bodies.

use crate::head::{Framing, RequestHead, ResponseHead};
use crate::headers::Known;

/// Whether the connection that a head leaves by ends with this message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Keep,
    Close,
    /// Keep, and say so, to an HTTP/1.0 client that asked for it.
    KeepAlive,
    /// Becomes a tunnel: `connection: upgrade`.
    Upgrade,
}

/// Hop-by-hop fields that never pass (RFC 9110 §7.6.1); Upgrade passes only with [`Fate::Upgrade`].
pub fn hop_by_hop(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings
            | Known::ContentLength
            | Known::Host
    )
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a decimal number.
pub fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a request head in origin form.
pub fn request(out: &mut Vec<u8>, head: &RequestHead, fate: Fate) {
    out.extend_from_slice(head.method());
    out.push(b' ');
    out.extend_from_slice(head.path());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, b"host", head.authority());
    for (known, name, value) in head.headers.iter() {
        if !hop_by_hop(known) || (known == Known::Upgrade && fate == Fate::Upgrade) {
            field(out, name, value);
        }
    }
    // Of every other method a server may expect a body (RFC 9110 §8.6), so it is told that there is none.
    let says_nothing = matches!(head.method(), b"GET" | b"HEAD" | b"DELETE" | b"TRACE" | b"CONNECT");
    match head.framing {
        Framing::None if !says_nothing => out.extend_from_slice(b"content-length: 0\r\n"),
        Framing::None => {}
        _ => framing(out, head.framing),
    }
    connection(out, fate);
    out.extend_from_slice(b"\r\n");
}

/// Appends a response head. A response to HEAD keeps the Content-Length it declares, though it has no body here.
pub fn response(out: &mut Vec<u8>, head: &ResponseHead, fate: Fate) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(reason(head.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (known, name, value) in head.headers.iter() {
        let declared = known == Known::ContentLength && head.framing == Framing::None && !no_length(head.status);
        if !hop_by_hop(known) || declared || (known == Known::Upgrade && fate == Fate::Upgrade) {
            field(out, name, value);
        }
    }
    framing(out, head.framing);
    connection(out, fate);
    out.extend_from_slice(b"\r\n");
}

/// Statuses whose head must not carry a Content-Length (RFC 9110 §8.6).
fn no_length(status: u16) -> bool {
    status == 204 || (100..200).contains(&status)
}

fn framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::None | Framing::Close => {}
        Framing::Length(n) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, n);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Delimited => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
}

fn connection(out: &mut Vec<u8>, fate: Fate) {
    out.extend_from_slice(match fate {
        Fate::Keep => b"",
        Fate::Close => b"connection: close\r\n".as_slice(),
        Fate::KeepAlive => b"connection: keep-alive\r\n".as_slice(),
        Fate::Upgrade => b"connection: Upgrade\r\n".as_slice(),
    });
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
