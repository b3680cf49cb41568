//! Bodies of HTTP/1.1 messages: where they end, and the chunked coding, decoded strictly and in place.

use bytes::{Bytes, BytesMut};

use super::Refused;
use crate::head::Framing;
use crate::headers::Headers;

/// Bytes of all chunk extensions of one body together; they are legal, useless and a way to burn CPU.
const MAX_EXTENSION: usize = 4096;
/// Of a chunk's size, leading zeros among them. What is refused is far from where any reader's numbers overflow, signed or
/// not: 2^60 bytes.
const MAX_DIGITS: usize = 16;
/// Bytes of a trailer section.
const MAX_TRAILERS: usize = 8192;

/// What the decoder made of the bytes there were.
#[derive(Debug)]
pub enum Decoded {
    /// Body bytes; `last` when the body ends with them.
    Data { data: Bytes, last: bool },
    /// The body has ended, with nothing further (trailers, if any, are in the decoder's list).
    End,
    /// More bytes are needed.
    More,
}

/// Decodes one body.
pub struct Decoder {
    state: State,
    extension: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

impl Decoder {
    pub fn new(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Delimited => State::ChunkSize,
            Framing::Close => State::UntilClose,
        };
        Decoder { state, extension: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the peer's closing the connection now is this body's regular end.
    pub fn ends_at_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Marks a close-delimited body as ended.
    pub fn close(&mut self) {
        self.state = State::Done;
    }

    /// Takes what belongs to the body off the front of `buf`. Trailers go to `trailers`.
    pub fn decode(&mut self, buf: &mut BytesMut, trailers: &mut Headers) -> Result<Decoded, Refused> {
        match self.state {
            State::Done => Ok(Decoded::End),
            _ if buf.is_empty() => Ok(Decoded::More),
            State::UntilClose => Ok(Decoded::Data { data: buf.split().freeze(), last: false }),
            State::Length(left) => {
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                let left = left - n as u64;
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                Ok(Decoded::Data { data: buf.split_to(n).freeze(), last: left == 0 })
            }
            _ => self.chunks(buf, trailers),
        }
    }

    /// Decodes every complete piece there is, moving the data together, so that many small chunks leave as one piece
    /// and a malformed chunk behind good ones is noticed before the good ones are passed on.
    fn chunks(&mut self, buf: &mut BytesMut, trailers: &mut Headers) -> Result<Decoded, Refused> {
        let (mut read, mut written) = (0, 0);
        while read < buf.len() && self.state != State::Done {
            let rest = &buf[read..];
            match self.state {
                State::ChunkSize => match self.chunk_size(rest)? {
                    Some((used, 0)) => {
                        read += used;
                        self.state = State::Trailers;
                    }
                    Some((used, size)) => {
                        read += used;
                        self.state = State::ChunkData(size);
                    }
                    None => break,
                },
                State::ChunkData(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if read != written {
                        buf.copy_within(read..read + n, written);
                    }
                    read += n;
                    written += n;
                    let left = left - n as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                }
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        read += 2;
                        self.state = State::ChunkSize;
                    }
                    [b'\r'] => break,
                    _ => return Err(Refused::Chunk),
                },
                State::Trailers => match trailer_section(rest, trailers)? {
                    Some(used) => {
                        read += used;
                        self.state = State::Done;
                    }
                    None => break,
                },
                State::Length(_) | State::UntilClose | State::Done => return Err(Refused::Chunk),
            }
        }
        Ok(self.taken(buf, read, written))
    }

    /// Splits the decoded data (the first `written` bytes) off and drops the rest of what was read.
    fn taken(&mut self, buf: &mut BytesMut, read: usize, written: usize) -> Decoded {
        let data = buf.split_to(written);
        bytes::Buf::advance(buf, read - written);
        let last = self.state == State::Done;
        match (written, last) {
            (0, true) => Decoded::End,
            (0, false) => Decoded::More,
            _ => Decoded::Data { data: data.freeze(), last },
        }
    }

    /// (bytes used, size) of a chunk's size line, or `None` while the line is incomplete.
    fn chunk_size(&mut self, buf: &[u8]) -> Result<Option<(usize, u64)>, Refused> {
        let mut size = 0u64;
        let mut at = 0;
        while let Some(digit) = buf.get(at).and_then(|b| (*b as char).to_digit(16)) {
            if at == MAX_DIGITS || size >> 56 != 0 {
                return Err(Refused::Chunk);
            }
            size = size << 4 | u64::from(digit);
            at += 1;
        }
        match (at, buf.get(at), buf.get(at + 1)) {
            (0, Some(_), _) => Err(Refused::Chunk),
            (_, None, _) | (_, Some(b'\r'), None) => Ok(None),
            (_, Some(b'\r'), Some(b'\n')) => Ok(Some((at + 2, size))),
            (_, Some(b';'), _) => self.extension(buf, at, size),
            _ => Err(Refused::Chunk),
        }
    }

    fn extension(&mut self, buf: &[u8], from: usize, size: u64) -> Result<Option<(usize, u64)>, Refused> {
        let text = &buf[from..];
        let end = text.iter().position(|b| *b == b'\r' || *b == b'\n');
        let length = end.unwrap_or(text.len());
        if self.extension + length > MAX_EXTENSION {
            return Err(Refused::Chunk);
        }
        let plain = text[..length].iter().all(|b| *b == b'\t' || (*b >= 0x20 && *b != 0x7f));
        match end.map(|e| (text[e], text.get(e + 1))) {
            _ if !plain => Err(Refused::Chunk),
            None | Some((b'\r', None)) => Ok(None),
            Some((b'\r', Some(b'\n'))) => {
                self.extension += length;
                Ok(Some((from + length + 2, size)))
            }
            Some(_) => Err(Refused::Chunk),
        }
    }
}

/// Reads a trailer section with its empty line; framing, routing and credential fields in it are dropped
/// (RFC 9110 §6.5.1). What is behind the section is the next message's, and not looked at.
fn trailer_section(buf: &[u8], into: &mut Headers) -> Result<Option<usize>, Refused> {
    let mut room = [httparse::EMPTY_HEADER; 32];
    let Some(end) = section_end(buf)? else { return Ok(None) };
    match httparse::parse_headers(&buf[..end], &mut room) {
        Ok(httparse::Status::Complete((used, fields))) if used == end => {
            into.clear();
            for field in fields.iter().filter(|f| trailer_allowed(f.name.as_bytes())) {
                into.push(field.name.as_bytes(), field.value);
            }
            Ok(Some(used))
        }
        _ => Err(Refused::Chunk),
    }
}

/// Where the section's empty line ends; every line must end in CRLF.
fn section_end(buf: &[u8]) -> Result<Option<usize>, Refused> {
    let mut line = 0;
    for (at, _) in buf.iter().enumerate().take(MAX_TRAILERS).filter(|(_, b)| **b == b'\n') {
        if at == 0 || buf[at - 1] != b'\r' {
            return Err(Refused::Chunk);
        }
        if at == line + 1 {
            return Ok(Some(at + 1));
        }
        line = at + 1;
    }
    if buf.len() > MAX_TRAILERS { Err(Refused::Chunk) } else { Ok(None) }
}

/// Whether a field may come in trailers: nothing that frames, routes, authenticates or describes the content.
pub fn trailer_allowed(name: &[u8]) -> bool {
    const NEVER: [&[u8]; 17] = [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"upgrade",
        b"te",
        b"trailer",
        b"expect",
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"set-cookie",
        b"content-type",
        b"content-encoding",
        b"content-range",
    ];
    let named = |prefix: &[u8]| name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix);
    !NEVER.iter().any(|n| name.eq_ignore_ascii_case(n)) && !named(b"x-forwarded-") && !named(b"x-envoy-")
}
