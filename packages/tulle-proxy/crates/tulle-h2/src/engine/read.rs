//! Bytes in: frames are cut out of what was read, wherever its pieces end, and DATA goes to its stream as it comes.

use std::task::Waker;

use super::{Engine, Reading, Role};
use crate::fields::{Fields, Malformed};
use crate::flood::Clock;
use crate::frame::{self, HEADER, Header, MAX_FRAME, PREFACE, flag, kind};
use crate::reason::Reason;
use crate::store::{Closed, Key};
use crate::stream::{Body, Gone, Head};

/// A DATA frame of which more is to come.
#[derive(Clone, Copy)]
pub(crate) struct DataFrame {
    /// `None` when nobody wants it.
    key: Option<Key>,
    left: usize,
    pad: usize,
    end: bool,
}

impl<F: Fields> Engine<F> {
    /// Takes what was read from the socket. `now` is asked only when a budget is used up.
    pub fn receive(&mut self, mut input: &[u8], now: Clock) {
        while !input.is_empty() && self.failed.is_none() && !self.closed {
            if let Err(reason) = self.step(&mut input, now) {
                self.fail(reason);
            }
        }
    }

    fn step(&mut self, input: &mut &[u8], now: Clock) -> Result<(), Reason> {
        match self.reading {
            Reading::Frame => self.next_frame(input, now),
            Reading::Data(frame) => self.data_goes_on(frame, input, now),
            Reading::Preface(seen) => {
                let n = input.len().min(PREFACE.len() - seen);
                let (part, rest) = input.split_at(n);
                if part != &PREFACE[seen..seen + n] {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                *input = rest;
                self.reading = if seen + n == PREFACE.len() { Reading::Frame } else { Reading::Preface(seen + n) };
                Ok(())
            }
        }
    }

    fn next_frame(&mut self, input: &mut &[u8], now: Clock) -> Result<(), Reason> {
        if self.carry.is_empty()
            && let Some((header, need)) = wanted(input)?
            && let Some((bytes, rest)) = input.split_at_checked(need)
        {
            *input = rest;
            return self.frame(header, &bytes[HEADER..], now);
        }
        loop {
            let known = wanted(&self.carry)?;
            let need = known.map_or(HEADER, |(_, need)| need);
            if let Some((header, _)) = known
                && self.carry.len() == need
            {
                let mut carry = std::mem::take(&mut self.carry);
                let done = self.frame(header, &carry[HEADER..], now);
                if carry.capacity() <= 1024 {
                    carry.clear();
                    self.carry = carry;
                }
                return done;
            }
            let n = input.len().min(need - self.carry.len());
            if n == 0 {
                return Ok(());
            }
            let (part, rest) = input.split_at(n);
            self.carry.extend_from_slice(part);
            *input = rest;
        }
    }

    fn frame(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        let others_wait = self.block.as_ref().is_some_and(|block| block.stream != header.stream);
        if others_wait || self.block.is_some() != (header.kind == kind::CONTINUATION) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if !self.settings_seen && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match header.kind {
            kind::DATA => self.data(header, payload, now),
            kind::HEADERS => self.headers(header, payload, now),
            kind::PRIORITY => self.priority(header, payload, now),
            kind::RST_STREAM => self.reset_frame(header, payload, now),
            kind::SETTINGS => self.settings(header, payload, now),
            kind::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR),
            kind::PING => self.ping_frame(header, payload, now),
            kind::GOAWAY => self.goaway(header, payload),
            kind::WINDOW_UPDATE => self.window_update(header, payload, now),
            kind::CONTINUATION => self.continuation(header, payload, now),
            _ => self.flood.unknown(now),
        }
    }

    /// Priorities are not used (RFC 9113 §5.3.2), but they must be well-formed.
    fn priority(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        if header.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.flood.priority()?;
        let fault = match payload.len() {
            5 if frame::number(payload) & 0x7fff_ffff != header.stream => return Ok(()),
            5 => Reason::PROTOCOL_ERROR,
            _ => Reason::FRAME_SIZE_ERROR,
        };
        match self.store.find(header.stream) {
            Some(key) => self.refuse(key, fault, Malformed::Sequence, now),
            None => Err(fault),
        }
    }

    /// The beginning of a DATA frame; `payload` is at most its padding's length.
    fn data(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        if header.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let padded = header.has(flag::PADDED);
        let pad = if padded { payload.first().map_or(0, |pad| usize::from(*pad)) } else { 0 };
        let overhead = pad + usize::from(padded);
        let left = header.len.checked_sub(overhead).ok_or(Reason::PROTOCOL_ERROR)?;
        let end = header.has(flag::END_STREAM);
        self.flood.data(left == 0 && !end)?;
        self.recv_window -= header.len as i64;
        if self.recv_window < 0 {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        let key = self.data_wanted(header, now)?;
        if let Some(stream) = key.and_then(|key| self.store.get(key)) {
            stream.unreleased += overhead;
        }
        self.release_window(overhead);
        self.data_goes_on(DataFrame { key, left, pad, end }, &mut &[][..], now)
    }

    /// The stream that a DATA frame is for, if it may have it.
    fn data_wanted(&mut self, header: Header, now: Clock) -> Result<Option<Key>, Reason> {
        let Some(key) = self.store.find(header.stream) else {
            self.not_idle(header.stream)?;
            if self.store.closed(header.stream) == Some(Closed::Finished) {
                self.control(|out| frame::put_reset(out, header.stream, Reason::STREAM_CLOSED))?;
                self.flood.reset(now)?;
            }
            return Ok(None);
        };
        let role = self.role;
        let Some(stream) = self.store.get(key) else { return Ok(None) };
        stream.recv_window -= header.len as i64;
        let fault = match stream.recv_window {
            _ if stream.recv_ended => Reason::STREAM_CLOSED,
            _ if role == Role::Client && stream.head == Head::Awaited => Reason::PROTOCOL_ERROR,
            ..0 => Reason::FLOW_CONTROL_ERROR,
            0.. => return Ok(Some(key)),
        };
        self.refuse(key, fault, Malformed::Sequence, now)?;
        Ok(None)
    }

    fn data_goes_on(&mut self, mut frame: DataFrame, input: &mut &[u8], now: Clock) -> Result<(), Reason> {
        let (data, rest) = input.split_at(input.len().min(frame.left));
        let (padding, rest) = rest.split_at(rest.len().min(frame.pad));
        *input = rest;
        frame.left -= data.len();
        frame.pad -= if frame.left == 0 { padding.len() } else { 0 };
        if !data.is_empty() && !self.keep(frame.key, data, now)? {
            frame.key = None;
            self.release_window(data.len());
        }
        if frame.left + frame.pad > 0 {
            self.reading = Reading::Data(frame);
            return Ok(());
        }
        self.reading = Reading::Frame;
        let Some(key) = frame.key.filter(|_| frame.end) else { return Ok(()) };
        let short = self.store.get(key).is_some_and(|stream| stream.missing.is_some_and(|n| n > 0));
        if short {
            return self.refuse(key, Reason::PROTOCOL_ERROR, Malformed::Length, now);
        }
        self.received_all(key);
        Ok(())
    }

    /// Gives data to its stream; says whether that wanted it.
    fn keep(&mut self, key: Option<Key>, data: &[u8], now: Clock) -> Result<bool, Reason> {
        let Some(key) = key else { return Ok(false) };
        let Some(stream) = self.store.get(key).filter(|s| s.live && s.fault.is_none()) else { return Ok(false) };
        if let Some(missing) = stream.missing.as_mut() {
            match missing.checked_sub(data.len() as u64) {
                Some(rest) => *missing = rest,
                None => {
                    self.refuse(key, Reason::PROTOCOL_ERROR, Malformed::Length, now)?;
                    return Ok(false);
                }
            }
        }
        stream.keep(data);
        stream.wake();
        Ok(true)
    }

    /// Body bytes were taken: the peer may send as many again, and is told so by the half window.
    pub(super) fn release_window(&mut self, n: usize) {
        self.unreleased += n;
        if self.unreleased >= self.config.connection_window as usize / 2 {
            self.recv_window += self.unreleased as i64;
            frame::put_window(&mut self.out, 0, self.unreleased as u32);
            self.unreleased = 0;
        }
    }

    /// The head of a stream, once it has come, with what is wrong with it; and whether there is no body. Interim
    /// responses' heads come first, one by one.
    pub fn take_head(&mut self, key: Key, waker: &Waker) -> Option<Result<Taken<F>, Gone>> {
        let Some(stream) = self.store.get(key) else { return Some(Err(Gone::Closed)) };
        if let Some(interim) = stream.interim.pop_front() {
            return Some(Ok((interim, None, false)));
        }
        match (stream.head, stream.gone) {
            (Head::Ready, _) => {
                stream.head = Head::Taken;
                let ended = stream.recv_ended && stream.kept() == 0 && stream.trailers.is_none();
                Some(Ok((std::mem::take(&mut stream.fields), stream.fault, ended)))
            }
            (_, Some(gone)) => Some(Err(gone)),
            (_, None) => {
                note(&mut stream.waker, waker);
                None
            }
        }
    }

    /// The next part of a stream's body. What was handed out before is given back to the peer's window.
    pub fn read(&mut self, key: Key, waker: &Waker) -> Body<F> {
        let window = self.config.stream_window as usize;
        let Some(stream) = self.store.get(key) else { return Body::Gone(Gone::Closed) };
        let lent = std::mem::take(&mut stream.lent);
        if lent > 0 {
            stream.unreleased += lent;
            if stream.unreleased >= window / 2 && stream.live && !stream.recv_ended {
                stream.recv_window += stream.unreleased as i64;
                frame::put_window(&mut self.out, key.id(), stream.unreleased as u32);
                stream.unreleased = 0;
            }
            self.release_window(lent);
        }
        let Some(stream) = self.store.get(key) else { return Body::Gone(Gone::Closed) };
        if stream.kept() > 0 {
            let data = stream.take();
            stream.lent = data.len();
            let last = stream.recv_ended && stream.kept() == 0 && stream.trailers.is_none();
            return Body::Data { data, last };
        }
        match (stream.recv_ended, stream.gone) {
            (true, _) => stream.trailers.take().map_or(Body::End, Body::Trailers),
            (false, Some(gone)) => Body::Gone(gone),
            (false, None) => {
                note(&mut stream.waker, waker);
                Body::Wait
            }
        }
    }

    /// How a stream was cut off, if it was.
    pub fn cut(&mut self, key: Key) -> Option<Gone> {
        self.store.get(key).and_then(|stream| stream.gone)
    }

    /// How a stream was cut off, if it was; else whoever asks is woken when it is.
    pub fn gone(&mut self, key: Key, waker: &Waker) -> Option<Gone> {
        let Some(stream) = self.store.get(key) else { return Some(Gone::Closed) };
        if stream.gone.is_none() {
            note(&mut stream.waker, waker);
        }
        stream.gone
    }
}

/// A head, its fault, and whether the message ends with it.
pub type Taken<F> = (F, Option<Malformed>, bool);

pub(super) fn note(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(old) if old.will_wake(waker) => {}
        _ => *slot = Some(waker.clone()),
    }
}

/// The header of the frame that begins here, and how many bytes must be there before it is looked at: all of it, but of
/// DATA only what comes before the data.
fn wanted(bytes: &[u8]) -> Result<Option<(Header, usize)>, Reason> {
    let Some(first) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let header = Header::read(first);
    if header.len > MAX_FRAME {
        return Err(Reason::FRAME_SIZE_ERROR);
    }
    let padded = header.has(flag::PADDED);
    let need = match header.kind {
        kind::DATA if padded && header.len == 0 => return Err(Reason::FRAME_SIZE_ERROR),
        kind::DATA => usize::from(padded),
        _ => header.len,
    };
    Ok(Some((header, HEADER + need)))
}
