//! Encoding header blocks straight into the outgoing bytes (RFC 7541 §6).
//!
//! What repeats goes into a small dynamic table; what differs from request to request is found out by name and sent as
//! a literal, so that it evicts nothing. Strings are not Huffman-coded: only values that change are sent as text at all,
//! and the few bytes saved cost both ends more than they bring.

use super::statics::{STATIC, name_index};
use super::table::{OVERHEAD, Table};
use crate::frame::{self, HEADER, Header, flag, kind};

const SLOTS: usize = 128;
/// Times in a row that a name comes with a value not seen before, until its values are no longer added to the table.
const RESTLESS: u8 = 8;
/// The table never grows beyond this, whatever the peer offers.
const LARGEST: usize = 4096;

/// What becomes of the values of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Index,
    /// Nothing more is added for now; what is in the table is still used.
    Restless,
    /// A literal, whose name alone is indexed: every value is expected to be new.
    Literal,
    /// A literal that no one on the way may index: secrets (RFC 7541 §7.1.3).
    Never,
}

#[derive(Clone, Copy)]
struct NameSlot {
    /// One more than the serial number of an entry with this name; 0 for none.
    entry: u32,
    /// The first static entry with this name; 0 for none.
    fixed: u8,
    policy: Policy,
    news: u8,
}

/// The encoding end of one direction of a connection.
pub struct Encoder {
    table: Table<()>,
    /// One more than the serial number of the entry with this name and value.
    fields: Box<[u32; SLOTS]>,
    names: Box<[NameSlot; SLOTS]>,
    /// The table's new size, to be told at the beginning of the next block.
    resized: Option<usize>,
}

impl Encoder {
    pub fn new() -> Encoder {
        let empty = NameSlot { entry: 0, fixed: 0, policy: Policy::Index, news: 0 };
        Encoder {
            table: Table::new(LARGEST),
            fields: Box::new([0; SLOTS]),
            names: Box::new([empty; SLOTS]),
            resized: None,
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_limit(&mut self, limit: usize) {
        let size = limit.min(LARGEST);
        if size != self.table.max() {
            self.table.set_max(size);
            self.resized = Some(size);
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(size) = self.resized.take() {
            integer(out, 0x20, 5, size);
        }
    }

    fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let by_name = hash(name, 0);
        let slot = &mut self.names[place(by_name)];
        let last = newest(&self.table, slot, name);
        if let Some((back, known)) = last
            && known == value
        {
            slot.news = 0;
            integer(out, 0x80, 7, 62 + back);
            return;
        }
        let last = last.map_or(0, |(back, _)| 62 + back);
        self.changed(out, (by_name, last), name, value);
    }

    /// Writes a field whose value is not its name's last one, which is at `last` (0: nowhere).
    fn changed(&mut self, out: &mut Vec<u8>, (by_name, last): (u64, usize), name: &[u8], value: &[u8]) {
        let slot = &mut self.names[place(by_name)];
        let mut index = if slot.fixed != 0 && STATIC[usize::from(slot.fixed) - 1].0 == name {
            usize::from(slot.fixed)
        } else {
            last
        };
        if index == 0 {
            let fixed = name_index(name);
            *slot = NameSlot { entry: 0, fixed, policy: policy(name), news: 0 };
            index = usize::from(fixed);
        }
        let by_field = hash(value, by_name);
        if matches!(slot.policy, Policy::Index | Policy::Restless)
            && let found @ 1.. = self.fields[place(by_field)]
            && let Some(back) = self.table.back(u64::from(found) - 1)
            && self.table.recent(back).is_some_and(|(n, v, ())| n == name && v == value)
        {
            slot.news = 0;
            integer(out, 0x80, 7, 62 + back);
            return;
        }
        let large = name.len() + value.len() + OVERHEAD > self.table.max() / 4;
        let add = match slot.policy {
            _ if large => false,
            Policy::Index => true,
            // Once, so that there is an entry with its name.
            Policy::Restless | Policy::Literal => index == 0,
            Policy::Never => false,
        };
        if !add {
            let first = if slot.policy == Policy::Never { 0x10 } else { 0 };
            return literal(out, (first, 4), index, name, value);
        }
        literal(out, (0x40, 6), index, name, value);
        self.table.add(name, value, ());
        // Serial numbers wrap after four thousand million entries: then slots are merely found stale.
        let serial = self.table.next() as u32;
        slot.entry = serial;
        self.fields[place(by_field)] = serial;
        slot.news = slot.news.saturating_add(1);
        if slot.news > RESTLESS && slot.policy == Policy::Index {
            slot.policy = Policy::Restless;
        }
    }
}

/// How many places before the newest entry the last one with this name is, and its value, if the slot knows one.
fn newest<'t>(table: &'t Table<()>, slot: &NameSlot, name: &[u8]) -> Option<(usize, &'t [u8])> {
    let back = table.back(u64::from(slot.entry.checked_sub(1)?))?;
    let (known, value, ()) = table.recent(back)?;
    (known == name).then_some((back, value))
}

fn policy(name: &[u8]) -> Policy {
    match name {
        b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie" => Policy::Never,
        b"x-request-id"
        | b"traceparent"
        | b"x-b3-traceid"
        | b"x-b3-spanid"
        | b"x-b3-parentspanid"
        | b"content-length"
        | b"grpc-timeout"
        | b"x-envoy-upstream-service-time"
        | b"date"
        | b"etag" => Policy::Literal,
        _ => Policy::Index,
    }
}

fn place(hash: u64) -> usize {
    (hash >> 57) as usize
}

/// Eight bytes at a time; only speed matters, since a clash merely costs compression.
fn hash(text: &[u8], seed: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |h: u64, word: u64| (h.rotate_left(29) ^ word).wrapping_mul(ODD);
    let (words, rest) = text.as_chunks::<8>();
    let whole = words.iter().fold(seed ^ text.len() as u64, |h, word| mix(h, u64::from_le_bytes(*word)));
    let last = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(whole, last)
}

fn literal(out: &mut Vec<u8>, (first, prefix): (u8, u32), index: usize, name: &[u8], value: &[u8]) {
    integer(out, first, prefix, index);
    if index == 0 {
        integer(out, 0, 7, name.len());
        out.extend_from_slice(name);
    }
    integer(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

/// A number whose first `prefix` bits share a byte with `first` (RFC 7541 §5.1).
#[inline]
fn integer(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let all = (1usize << prefix) - 1;
    if value < all {
        out.push(first | value as u8);
    } else {
        out.push(first | all as u8);
        more(out, value - all);
    }
}

#[cold]
fn more(out: &mut Vec<u8>, mut rest: usize) {
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// One head on its way out: fields go into the frame as they are given.
pub struct BlockWriter<'e> {
    encoder: &'e mut Encoder,
    out: &'e mut Vec<u8>,
    start: usize,
}

impl<'e> BlockWriter<'e> {
    pub(crate) fn begin(encoder: &'e mut Encoder, out: &'e mut Vec<u8>) -> BlockWriter<'e> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        encoder.begin(out);
        BlockWriter { encoder, out, start }
    }

    /// A field or pseudo-header field; the name is in lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.encoder.field(self.out, name, value);
    }

    pub fn method(&mut self, method: &[u8]) {
        match method {
            b"GET" => self.out.push(0x82),
            b"POST" => self.out.push(0x83),
            _ => self.field(b":method", method),
        }
    }

    /// `https` or `http`.
    pub fn scheme(&mut self, secure: Scheme) {
        self.out.push(if secure == Scheme::Https { 0x87 } else { 0x86 });
    }

    pub fn path(&mut self, path: &[u8]) {
        match path {
            b"/" => self.out.push(0x84),
            _ => self.field(b":path", path),
        }
    }

    pub fn status(&mut self, status: u16) {
        let fixed = [200, 204, 206, 304, 400, 404, 500].iter().position(|known| *known == status);
        match fixed {
            Some(at) => self.out.push(0x88 + at as u8),
            None => {
                let digit = |n: u16| b'0' + (n % 10) as u8;
                self.field(b":status", &[digit(status / 100), digit(status / 10), digit(status)]);
            }
        }
    }

    /// Writes the frame's own header, cutting what is too long for one frame into continuations.
    pub(crate) fn finish(self, stream: u32, end: bool, largest: usize) {
        let len = self.out.len() - self.start - HEADER;
        let end = if end { flag::END_STREAM } else { 0 };
        let whole = if len <= largest { flag::END_HEADERS } else { 0 };
        let header = Header { len: len.min(largest), kind: kind::HEADERS, flags: end | whole, stream };
        self.out[self.start..self.start + HEADER].copy_from_slice(&header.bytes());
        if whole == 0 {
            let rest = self.out.split_off(self.start + HEADER + largest);
            let count = rest.len().div_ceil(largest);
            for (n, part) in rest.chunks(largest).enumerate() {
                let flags = if n + 1 == count { flag::END_HEADERS } else { 0 };
                frame::put(self.out, kind::CONTINUATION, flags, stream, part);
            }
        }
    }
}

/// The scheme of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    Http,
    Https,
}
