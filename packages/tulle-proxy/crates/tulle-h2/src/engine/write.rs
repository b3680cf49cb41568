//! Bytes out: heads and bodies go into the connection's outgoing bytes as windows allow; whoever must wait is woken.

use std::task::Waker;

use bytes::Bytes;

use super::read::note;
use super::{Engine, Role};
use crate::fields::Fields;
use crate::frame::{self, Header, MAX_FRAME, flag, kind};
use crate::hpack::BlockWriter;
use crate::reason::Reason;
use crate::store::{Closed, Key};
use crate::stream::{Gone, Stream};

/// Bytes that wait to be sent before writers of bodies have to wait.
pub(super) const HIGH: usize = 128 * 1024;

impl<F: Fields> Engine<F> {
    /// Opens a stream with a request's head (client). `to_head`: the method is HEAD. `None` when there is no room.
    pub fn open(&mut self, to_head: bool, end: bool, head: impl FnOnce(&mut BlockWriter<'_>)) -> Option<Key> {
        if !self.has_room() {
            return None;
        }
        let id = self.next_own;
        self.next_own += 2;
        let mut stream = Stream::new(id, self.config.stream_window, self.peer.window, F::default());
        (stream.to_head, stream.head_sent, stream.send_ended) = (to_head, true, end);
        let key = self.store.add(stream);
        self.block_out(id, end, head);
        Some(key)
    }

    /// Sends an interim response's head (1xx), before the final one.
    pub fn interim(&mut self, key: Key, head: impl FnOnce(&mut BlockWriter<'_>)) -> Result<(), Gone> {
        self.writable(key)?;
        self.block_out(key.id(), false, head);
        Ok(())
    }

    /// Sends a response's head.
    pub fn respond(&mut self, key: Key, end: bool, head: impl FnOnce(&mut BlockWriter<'_>)) -> Result<(), Gone> {
        let stream = self.writable(key)?;
        if !std::mem::replace(&mut stream.head_sent, true) {
            self.flood.answered();
        }
        self.block_out(key.id(), end, head);
        if end {
            self.sent_all(key);
        }
        Ok(())
    }

    /// Sends trailers, and with them the end.
    pub fn end_with(&mut self, key: Key, fields: impl FnOnce(&mut BlockWriter<'_>)) -> Result<(), Gone> {
        self.writable(key)?;
        self.block_out(key.id(), true, fields);
        self.sent_all(key);
        Ok(())
    }

    fn block_out(&mut self, id: u32, end: bool, fields: impl FnOnce(&mut BlockWriter<'_>)) {
        let mut block = BlockWriter::begin(&mut self.encoder, &mut self.out);
        fields(&mut block);
        block.finish(id, end, MAX_FRAME);
    }

    fn writable(&mut self, key: Key) -> Result<&mut Stream<F>, Gone> {
        let stream = self.store.get(key).ok_or(Gone::Closed)?;
        match stream.gone {
            Some(gone) => Err(gone),
            None if stream.send_ended => Err(Gone::Closed),
            None => Ok(stream),
        }
    }

    /// Sends as much of `data` as there is room for; what is left stays in it, and `waker` is told when to go on.
    pub fn send(&mut self, key: Key, data: &mut Bytes, last: bool, waker: &Waker) -> Result<(), Gone> {
        loop {
            let (pending, connection) = (self.pending(), self.send_window);
            let stream = self.writable(key)?;
            let window = stream.send_window.min(connection).clamp(0, MAX_FRAME as i64) as usize;
            let n = window.min(data.len());
            if !data.is_empty() && (n == 0 || pending >= HIGH) {
                note(&mut stream.waker, waker);
                stream.blocked = true;
                let stalled = stream.send_window <= 0;
                if !stalled && !std::mem::replace(&mut stream.queued, true) {
                    self.blocked.push_back(key);
                }
                if stalled {
                    // What the connection has room for is somebody else's turn.
                    self.unblock();
                }
                return Ok(());
            }
            stream.blocked = false;
            stream.send_window -= n as i64;
            self.send_window -= n as i64;
            let part = data.split_to(n);
            let end = last && data.is_empty();
            if !part.is_empty() || end {
                let flags = if end { flag::END_STREAM } else { 0 };
                let header = Header { len: n, kind: kind::DATA, flags, stream: key.id() };
                self.out.extend_from_slice(&header.bytes());
                self.out.extend_from_slice(&part);
                self.flood.data_sent();
            }
            if data.is_empty() {
                if end {
                    self.sent_all(key);
                }
                self.unblock();
                return Ok(());
            }
        }
    }

    fn pending(&self) -> usize {
        self.out.len() - self.sent
    }

    fn sent_all(&mut self, key: Key) {
        let Some(stream) = self.store.get(key) else { return };
        stream.send_ended = true;
        if stream.recv_ended {
            self.store.close(key, Closed::Finished);
        }
    }

    /// Wakes writers for whom there is room now, in the order in which they came. One that turns out not to need it
    /// comes by here again when it writes or is released, so that the next one gets its turn.
    pub(super) fn unblock(&mut self) {
        if self.blocked.is_empty() {
            return;
        }
        let room = (HIGH as i64 - self.pending() as i64).min(self.send_window);
        let mut turns = if room <= 0 { 0 } else { 1 + room / (4 * MAX_FRAME as i64) };
        while turns > 0
            && let Some(key) = self.blocked.pop_front()
        {
            let Some(stream) = self.store.get(key) else { continue };
            stream.queued = false;
            if stream.blocked && stream.gone.is_none() {
                stream.wake();
                turns -= 1;
            }
        }
    }

    /// Cuts a stream off.
    pub fn reset(&mut self, key: Key, reason: Reason) {
        let Some(stream) = self.store.get(key) else { return };
        if !stream.live {
            return;
        }
        stream.gone.get_or_insert(Gone::Closed);
        self.store.close(key, Closed::ByUs);
        frame::put_reset(&mut self.out, key.id(), reason);
    }

    /// Nobody will use the stream any more; one that has not ended is reset.
    pub fn release(&mut self, key: Key) {
        let role = self.role;
        let Some(stream) = self.store.get(key) else { return };
        // A server that has answered whole wants the rest of the request no longer (RFC 9113 §8.1).
        let reason = if role == Role::Server && stream.send_ended { Reason::NO_ERROR } else { Reason::CANCEL };
        let unread = stream.kept() + stream.lent;
        self.reset(key, reason);
        self.store.release(key);
        self.release_window(unread);
        self.unblock();
    }
}
