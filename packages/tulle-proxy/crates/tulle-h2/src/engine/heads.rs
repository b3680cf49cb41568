//! Header blocks: put together, decoded, checked as messages, and given to their streams (RFC 9113 §8.1 to §8.3).

use super::{Engine, HeadKind, Leaving, Role};
use crate::fields::{Fields, Kind, Malformed, Meta, Pseudo};
use crate::flood::{Clock, MAX_CONTINUATIONS};
use crate::frame::{self, Header, flag};
use crate::hpack::Sink;
use crate::reason::Reason;
use crate::store::{Closed, Key};
use crate::stream::{Head, Stream};

/// Interim heads that wait on a stream; nobody needs those beyond.
const MAX_INTERIM: usize = 8;

/// A block that goes on in the next frame.
pub(crate) struct Block {
    pub stream: u32,
    end: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// What a block is for.
enum Place {
    Request,
    Response(Key),
    Trailers(Key),
    /// Decoded only because the compression's state goes on.
    Nothing,
    /// On a stream whose sender had ended it.
    Late(Key),
}

impl<F: Fields> Engine<F> {
    pub(super) fn headers(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        if header.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let mut block = unpad(header, payload)?;
        if header.has(flag::PRIORITY) {
            let (priority, rest) = block.split_at_checked(5).ok_or(Reason::FRAME_SIZE_ERROR)?;
            if frame::number(priority) & 0x7fff_ffff == header.stream {
                return Err(Reason::PROTOCOL_ERROR);
            }
            block = rest;
        }
        let end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.head(header.stream, end, block, now);
        }
        self.block = Some(Block { stream: header.stream, end, bytes: block.to_vec(), frames: 0 });
        self.bound_block()
    }

    pub(super) fn continuation(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        let Some(block) = self.block.as_mut() else { return Err(Reason::PROTOCOL_ERROR) };
        block.bytes.extend_from_slice(payload);
        block.frames += 1;
        self.bound_block()?;
        if !header.has(flag::END_HEADERS) {
            return Ok(());
        }
        let Some(block) = self.block.take() else { return Ok(()) };
        self.head(block.stream, block.end, &block.bytes, now)
    }

    /// A list that is somewhat too long is answered as such; a block much longer than the list it may make is an attack.
    fn bound_block(&self) -> Result<(), Reason> {
        let longest = (self.config.header_list as usize).saturating_mul(4).saturating_add(frame::MAX_FRAME);
        let over = self.block.as_ref().is_some_and(|b| b.bytes.len() > longest || b.frames > MAX_CONTINUATIONS);
        if over { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }

    fn head(&mut self, id: u32, end: bool, block: &[u8], now: Clock) -> Result<(), Reason> {
        let place = self.place(id)?;
        let mut fields = self.spare.pop().unwrap_or_default();
        let (kind, limit) = match place {
            Place::Request => (HeadKind::Request, self.config.header_list as usize),
            Place::Response(_) => (HeadKind::Response, self.config.header_list as usize),
            Place::Trailers(_) => (HeadKind::Trailers, self.config.header_list as usize),
            Place::Nothing | Place::Late(_) => (HeadKind::Trailers, 0),
        };
        let mut reader = Reader::new(&mut fields, kind, limit);
        self.decoder.decode(block, &mut reader).map_err(|_| Reason::COMPRESSION_ERROR)?;
        let seen = reader.finish(self.config.extended_connect);
        match place {
            Place::Request => self.request(id, end, fields, &seen, now),
            Place::Response(key) => self.response(key, end, fields, &seen, now),
            Place::Trailers(key) => self.trailers(key, end, fields, &seen, now),
            Place::Nothing => {
                self.recycle(fields);
                Ok(())
            }
            Place::Late(key) => self.refuse(key, Reason::STREAM_CLOSED, Malformed::Sequence, now),
        }
    }

    fn place(&mut self, id: u32) -> Result<Place, Reason> {
        if let Some(key) = self.store.find(id) {
            let role = self.role;
            let Some(stream) = self.store.get(key) else { return Ok(Place::Nothing) };
            return Ok(match (role, stream.head) {
                _ if stream.recv_ended => Place::Late(key),
                (Role::Client, Head::Awaited) => Place::Response(key),
                _ => Place::Trailers(key),
            });
        }
        let idle = self.is_idle(id);
        match (self.role, idle) {
            (Role::Client, true) => Err(Reason::PROTOCOL_ERROR),
            (Role::Client, false) => Ok(Place::Nothing),
            (Role::Server, true) if id.is_multiple_of(2) => Err(Reason::PROTOCOL_ERROR),
            (Role::Server, true) if self.leaving == Leaving::Final => Ok(Place::Nothing),
            (Role::Server, true) => Ok(Place::Request),
            (Role::Server, false) => match self.store.closed(id) {
                Some(Closed::ByUs) => Ok(Place::Nothing),
                Some(Closed::Finished) => Err(Reason::STREAM_CLOSED),
                None if self.store.forgets() => Ok(Place::Nothing),
                // A number that was skipped can no longer be used (RFC 9113 §5.1.1).
                None => Err(Reason::PROTOCOL_ERROR),
            },
        }
    }

    fn request(&mut self, id: u32, end: bool, fields: F, seen: &Seen, now: Clock) -> Result<(), Reason> {
        self.last_peer = id;
        self.flood.stream();
        let most = self.config.max_streams as usize;
        // Streams that were reset but are still being wound up count, too, at half: else resets get round the limit.
        if self.store.live() >= most || self.store.held() >= most.saturating_mul(2) {
            self.store.note(id, Closed::ByUs);
            self.control(|out| frame::put_reset(out, id, Reason::REFUSED_STREAM))?;
            return self.flood.reset(now);
        }
        let mut stream = Stream::new(id, self.config.stream_window, self.peer.window, fields);
        let unmet = end && seen.length.is_some_and(|length| length > 0);
        stream.fault = seen.fault.or(unmet.then_some(Malformed::Length));
        stream.missing = seen.length;
        stream.head = Head::Ready;
        stream.recv_ended = end;
        let faulty = stream.fault.is_some();
        let key = self.store.add(stream);
        self.accepted.push_back(key);
        // Its stream will be reset: for that many are too many, as for other faults that make us reset.
        if faulty { self.flood.reset(now) } else { Ok(()) }
    }

    fn response(&mut self, key: Key, end: bool, fields: F, seen: &Seen, now: Clock) -> Result<(), Reason> {
        let interim = (100..200).contains(&seen.status);
        let fault = match seen.fault {
            None if interim && (end || seen.status == 101) => Some(Malformed::Sequence),
            fault => fault,
        };
        if let Some(fault) = fault {
            return self.refuse(key, Reason::PROTOCOL_ERROR, fault, now);
        }
        let Some(stream) = self.store.get(key) else { return Ok(()) };
        if interim {
            if stream.interim.len() < MAX_INTERIM && stream.live {
                stream.interim.push_back(fields);
                stream.wake();
            } else {
                self.recycle(fields);
            }
            return Ok(());
        }
        let bodiless = stream.to_head || seen.status == 204 || seen.status == 304;
        stream.missing = seen.length.filter(|_| !bodiless);
        if end && stream.missing.is_some_and(|length| length > 0) {
            return self.refuse(key, Reason::PROTOCOL_ERROR, Malformed::Length, now);
        }
        stream.fields = fields;
        stream.head = Head::Ready;
        stream.wake();
        if end {
            self.received_all(key);
        }
        Ok(())
    }

    fn trailers(&mut self, key: Key, end: bool, fields: F, seen: &Seen, now: Clock) -> Result<(), Reason> {
        let Some(stream) = self.store.get(key) else { return Ok(()) };
        let short = stream.missing.is_some_and(|length| length > 0);
        let fault = match seen.fault {
            None if !end => Some(Malformed::Sequence),
            None if short => Some(Malformed::Length),
            fault => fault,
        };
        if let Some(fault) = fault {
            return self.refuse(key, Reason::PROTOCOL_ERROR, fault, now);
        }
        stream.trailers = Some(fields);
        self.received_all(key);
        Ok(())
    }

    /// The peer ended its side of the stream.
    pub(super) fn received_all(&mut self, key: Key) {
        let Some(stream) = self.store.get(key) else { return };
        stream.recv_ended = true;
        stream.wake();
        if stream.send_ended {
            self.store.close(key, Closed::Finished);
        }
    }
}

/// A payload without its padding.
fn unpad(header: Header, payload: &[u8]) -> Result<&[u8], Reason> {
    if !header.has(flag::PADDED) {
        return Ok(payload);
    }
    let (pad, rest) = payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
    let len = rest.len().checked_sub(usize::from(*pad)).ok_or(Reason::PROTOCOL_ERROR)?;
    Ok(&rest[..len])
}

/// What a head said that matters here.
pub(super) struct Seen {
    fault: Option<Malformed>,
    length: Option<u64>,
    status: u16,
}

/// Checks fields as they are decoded, and passes on those that are good.
struct Reader<'f, F> {
    fields: &'f mut F,
    kind: HeadKind,
    room: usize,
    seen: Seen,
    /// Bit by bit the pseudo-header fields that came.
    pseudo: u8,
    connect: bool,
    regular: bool,
}

impl<'f, F: Fields> Reader<'f, F> {
    fn new(fields: &'f mut F, kind: HeadKind, room: usize) -> Reader<'f, F> {
        let seen = Seen { fault: None, length: None, status: 0 };
        Reader { fields, kind, room, seen, pseudo: 0, connect: false, regular: false }
    }

    fn has(&self, which: Pseudo) -> bool {
        self.pseudo & 1 << which as u8 != 0
    }

    fn take_pseudo(&mut self, which: Pseudo, value: &[u8]) -> Result<(), Malformed> {
        let fits = match self.kind {
            HeadKind::Request => which != Pseudo::Status,
            HeadKind::Response => which == Pseudo::Status,
            HeadKind::Trailers => false,
        };
        let empty = value.is_empty() && which != Pseudo::Authority;
        if !fits || self.regular || self.has(which) || empty {
            return Err(Malformed::Pseudo);
        }
        self.pseudo |= 1 << which as u8;
        match which {
            Pseudo::Method => self.connect = value == b"CONNECT",
            Pseudo::Status => self.seen.status = status(value).ok_or(Malformed::Pseudo)?,
            Pseudo::Scheme if !scheme_allowed(value) => return Err(Malformed::Pseudo),
            _ => {}
        }
        self.fields.pseudo(which, value);
        Ok(())
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let length = decimal(value).ok_or(Malformed::Length)?;
        match self.seen.length.replace(length) {
            Some(_) => Err(Malformed::Length),
            None => Ok(()),
        }
    }

    /// `extended`: whether CONNECT may name a protocol, which the peer knows by our SETTINGS.
    fn finish(mut self, extended: bool) -> Seen {
        let [method, scheme, path, protocol] =
            [Pseudo::Method, Pseudo::Scheme, Pseudo::Path, Pseudo::Protocol].map(|which| self.has(which));
        let whole = match self.kind {
            HeadKind::Trailers => true,
            HeadKind::Response => self.has(Pseudo::Status),
            // RFC 9113 §8.5, and RFC 8441 §4 where there is a protocol.
            HeadKind::Request if self.connect && !protocol => !scheme && !path && self.has(Pseudo::Authority),
            HeadKind::Request => method && scheme && path && (!protocol || (self.connect && extended)),
        };
        if !whole {
            self.seen.fault.get_or_insert(Malformed::Pseudo);
        }
        if self.kind == HeadKind::Request && self.connect {
            self.seen.length = None;
        }
        self.fields.complete();
        self.seen
    }
}

/// RFC 3986 §3.1: no scheme that could be read as a whole URI's beginning.
fn scheme_allowed(scheme: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    matches!(scheme, b"http" | b"https") || scheme.iter().all(plain)
}

impl<F: Fields> Sink for Reader<'_, F> {
    fn field(&mut self, meta: Meta, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + 32;
        if size > self.room {
            self.room = 0;
            self.seen.fault.get_or_insert(Malformed::TooLarge);
            return;
        }
        self.room -= size;
        let taken = match meta.kind {
            Kind::Pseudo(which) => self.take_pseudo(which, value),
            Kind::Bad(fault) => Err(fault),
            Kind::Length => self.take_length(value),
            Kind::Regular | Kind::Te => Ok(()),
        };
        if let Err(fault) = taken {
            self.seen.fault.get_or_insert(fault);
            return;
        }
        if !matches!(meta.kind, Kind::Pseudo(_)) {
            self.regular = true;
            self.fields.field(meta.class, name, value);
        }
    }
}

fn status(value: &[u8]) -> Option<u16> {
    match value {
        [a @ b'1'..=b'9', b, c] if b.is_ascii_digit() && c.is_ascii_digit() => {
            Some([a, b, c].iter().fold(0, |n, digit| n * 10 + u16::from(**digit - b'0')))
        }
        _ => None,
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0u64, |n, digit| n.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}
