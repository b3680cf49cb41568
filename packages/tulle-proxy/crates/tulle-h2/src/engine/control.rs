//! Frames about the connection: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM; and how a connection ends.

use super::{Engine, Leaving, Role};
use crate::fields::{Fields, Malformed};
use crate::flood::{Clock, MAX_QUEUED};
use crate::frame::{self, Header, MAX_WINDOW, flag, kind};
use crate::reason::Reason;
use crate::store::{Closed, Key};
use crate::stream::Gone;

/// Payloads of our PINGs.
const SHUTDOWN: &[u8; 8] = b"shutdown";
const KEEPALIVE: &[u8; 8] = b"keepaliv";

impl<F: Fields> Engine<F> {
    pub(super) fn settings(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        if header.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.flood.settings(now)?;
        if header.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(Reason::FRAME_SIZE_ERROR) };
        }
        let before = self.peer;
        if !self.settings_seen && self.role == Role::Client {
            self.peer.max_streams = u32::MAX;
        }
        self.peer.read(payload)?;
        self.settings_seen = true;
        self.encoder.set_limit(self.peer.table as usize);
        let change = i64::from(self.peer.window) - i64::from(before.window);
        if change != 0 {
            self.shift_windows(change)?;
        }
        self.curious.drain(..).for_each(std::task::Waker::wake);
        self.control(|out| frame::put(out, kind::SETTINGS, flag::ACK, 0, &[]))
    }

    /// A changed initial window moves the window of every stream, perhaps below zero (RFC 9113 §6.9.2).
    fn shift_windows(&mut self, change: i64) -> Result<(), Reason> {
        for key in self.store.keys() {
            let Some(stream) = self.store.get(key) else { continue };
            stream.send_window += change;
            if stream.send_window > MAX_WINDOW {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            if stream.blocked && stream.send_window > 0 {
                stream.wake();
            }
        }
        Ok(())
    }

    /// Queues a control frame. A peer that makes us send them without reading them is cut off.
    pub(super) fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Reason> {
        write(&mut self.out);
        self.queued += 1;
        if self.queued > MAX_QUEUED { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }

    pub(super) fn ping_frame(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        if header.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if payload.len() != 8 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if !header.has(flag::ACK) {
            self.flood.ping(now)?;
            return self.control(|out| frame::put(out, kind::PING, flag::ACK, 0, payload));
        }
        if payload == KEEPALIVE && self.pinging {
            self.pinging = false;
        } else if payload == SHUTDOWN && self.leaving == Leaving::Warned {
            self.leaving = Leaving::Final;
            frame::put_goaway(&mut self.out, self.last_peer, Reason::NO_ERROR);
        } else {
            // It answers nothing.
            self.flood.ping(now)?;
        }
        Ok(())
    }

    /// Asks whether the peer is still there; `awaits_pong` tells.
    pub fn ping(&mut self) {
        self.pinging = true;
        frame::put(&mut self.out, kind::PING, 0, 0, KEEPALIVE);
    }

    pub fn awaits_pong(&self) -> bool {
        self.pinging
    }

    pub(super) fn goaway(&mut self, header: Header, payload: &[u8]) -> Result<(), Reason> {
        if header.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if payload.len() < 8 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let last = frame::number(payload) & 0x7fff_ffff;
        if self.peer_leaving.is_some_and(|before| last > before) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.peer_leaving = Some(last);
        if self.role == Role::Server {
            return Ok(());
        }
        // Those it has not looked at may be asked again elsewhere (RFC 9113 §6.8).
        for key in self.store.keys().into_iter().filter(|key| key.id() > last) {
            self.end(key, Gone::Reset(Reason::REFUSED_STREAM), Closed::Finished);
        }
        Ok(())
    }

    pub(super) fn window_update(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        if payload.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.flood.window_update()?;
        let by = i64::from(frame::number(payload) & 0x7fff_ffff);
        if header.stream == 0 {
            self.send_window += by;
            if by == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            if self.send_window > MAX_WINDOW {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            self.unblock();
            return Ok(());
        }
        let Some(key) = self.store.find(header.stream) else { return self.not_idle(header.stream) };
        if by == 0 {
            return self.refuse(key, Reason::PROTOCOL_ERROR, Malformed::Sequence, now);
        }
        let Some(stream) = self.store.get(key) else { return Ok(()) };
        stream.send_window += by;
        if stream.send_window > MAX_WINDOW {
            return self.refuse(key, Reason::FLOW_CONTROL_ERROR, Malformed::Sequence, now);
        }
        if stream.blocked && stream.send_window > 0 {
            stream.wake();
        }
        Ok(())
    }

    pub(super) fn reset_frame(&mut self, header: Header, payload: &[u8], now: Clock) -> Result<(), Reason> {
        if payload.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let Some(key) = self.store.find(header.stream) else { return self.not_idle(header.stream) };
        let Some(stream) = self.store.get(key) else { return Ok(()) };
        let early = self.role == Role::Server && !stream.head_sent;
        // A server that has answered whole may stop the request's body without it being an error (RFC 9113 §8.1).
        let reason = Reason::from(frame::number(payload));
        if self.role == Role::Client && reason == Reason::NO_ERROR && stream.recv_ended {
            stream.send_ended = true;
            stream.wake();
            self.store.close(key, Closed::Finished);
            return Ok(());
        }
        self.end(key, Gone::Reset(reason), Closed::Finished);
        if early { self.flood.reset(now) } else { Ok(()) }
    }

    /// A frame on a stream that is no more is nothing; one on a stream that never was is an error (RFC 9113 §5.1).
    pub(super) fn not_idle(&self, id: u32) -> Result<(), Reason> {
        if id == 0 || self.is_idle(id) { Err(Reason::PROTOCOL_ERROR) } else { Ok(()) }
    }

    pub(super) fn is_idle(&self, id: u32) -> bool {
        match (self.role, id % 2) {
            (Role::Server, 1) => id > self.last_peer,
            (Role::Client, 1) => id >= self.next_own,
            _ => true,
        }
    }

    /// Ends a stream for the peer's fault, and counts it: making a server reset streams is an attack, too.
    pub(super) fn refuse(&mut self, key: Key, reason: Reason, fault: Malformed, now: Clock) -> Result<(), Reason> {
        self.end(key, Gone::Malformed(fault), Closed::ByUs);
        self.control(|out| frame::put_reset(out, key.id(), reason))?;
        if self.role == Role::Server { self.flood.reset(now) } else { Ok(()) }
    }

    /// The stream goes no further. What was received of its body can still be read.
    pub(super) fn end(&mut self, key: Key, gone: Gone, how: Closed) {
        let Some(stream) = self.store.get(key) else { return };
        stream.gone.get_or_insert(gone);
        stream.wake();
        self.store.close(key, how);
    }

    /// The peer broke the rules of the connection: it is told, and everything ends.
    pub(super) fn fail(&mut self, reason: Reason) {
        self.failed = Some(reason);
        frame::put_goaway(&mut self.out, self.last_peer, reason);
        self.end_all();
    }

    /// Ends the connection for another reason than a received frame, and tells the peer.
    pub fn abandon(&mut self, reason: Reason) {
        if self.failed.is_none() && !self.closed {
            self.fail(reason);
        }
    }

    /// The socket has ended.
    pub fn close(&mut self) {
        self.closed = true;
        self.end_all();
    }

    fn end_all(&mut self) {
        for key in self.store.keys() {
            self.end(key, Gone::Closed, Closed::Finished);
        }
        self.blocked.clear();
        self.curious.drain(..).for_each(std::task::Waker::wake);
    }

    /// Asks the peer to go elsewhere: two GOAWAYs with a round trip between them, so that streams already on their way
    /// are still served (RFC 9113 §6.8).
    pub fn shutdown(&mut self) {
        if self.leaving != Leaving::No || self.failed.is_some() || self.closed {
            return;
        }
        self.leaving = Leaving::Warned;
        frame::put_goaway(&mut self.out, MAX_WINDOW as u32, Reason::NO_ERROR);
        frame::put(&mut self.out, kind::PING, 0, 0, SHUTDOWN);
    }
}
