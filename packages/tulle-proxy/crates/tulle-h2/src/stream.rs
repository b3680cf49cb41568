//! One stream: what was received and not yet taken, how much may still be sent, and how it ended (RFC 9113 §5.1).

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;

use crate::fields::Malformed;
use crate::reason::Reason;

/// The largest part of a body handed out at once.
const PIECE: usize = 64 * 1024;

/// Why a stream will not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// The peer reset it, or its GOAWAY says that it was not looked at (`REFUSED_STREAM`).
    Reset(Reason),
    /// The peer broke the rules on this stream, which was reset.
    Malformed(Malformed),
    /// The whole connection ended.
    Closed,
}

/// What is next of a body.
#[derive(Debug)]
pub enum Body<F> {
    /// Nothing has come yet.
    Wait,
    Data {
        data: Bytes,
        last: bool,
    },
    Trailers(F),
    End,
    Gone(Gone),
}

/// How far the first head has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Head {
    Awaited,
    Ready,
    Taken,
}

pub(crate) struct Stream<F> {
    pub id: u32,
    /// Counted against the limit of concurrent streams: neither reset nor ended on both sides.
    pub live: bool,
    pub head: Head,
    pub fields: F,
    /// Interim heads (1xx) that have not been taken.
    pub interim: VecDeque<F>,
    pub fault: Option<Malformed>,
    pub trailers: Option<F>,
    /// Received and not taken: the earlier part, and what came behind it.
    pub first: Bytes,
    pub more: Vec<u8>,
    /// Handed out and not yet asked beyond.
    pub lent: usize,
    /// Bytes that the peer may still send.
    pub recv_window: i64,
    /// Taken, and not yet given back to the peer's window.
    pub unreleased: usize,
    /// Body bytes still missing from the declared length.
    pub missing: Option<u64>,
    /// No body is expected whatever length is declared: the answer to HEAD.
    pub to_head: bool,
    pub recv_ended: bool,
    pub head_sent: bool,
    pub send_ended: bool,
    pub send_window: i64,
    /// Its writer waits for room.
    pub blocked: bool,
    /// It is in the queue of those who wait for the connection.
    pub queued: bool,
    pub gone: Option<Gone>,
    pub waker: Option<Waker>,
}

impl<F: Default> Stream<F> {
    pub fn new(id: u32, recv_window: u32, send_window: u32, fields: F) -> Stream<F> {
        Stream {
            id,
            live: true,
            head: Head::Awaited,
            fields,
            interim: VecDeque::new(),
            fault: None,
            trailers: None,
            first: Bytes::new(),
            more: Vec::new(),
            lent: 0,
            recv_window: i64::from(recv_window),
            unreleased: 0,
            missing: None,
            to_head: false,
            recv_ended: false,
            head_sent: false,
            send_ended: false,
            send_window: i64::from(send_window),
            blocked: false,
            queued: false,
            gone: None,
            waker: None,
        }
    }

    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Keeps a part of the body. Parts that come before the earlier ones are taken are put together, so that what is
    /// kept is bounded by the window whatever the frames' sizes.
    pub fn keep(&mut self, data: &[u8]) {
        if self.first.is_empty() && self.more.is_empty() {
            self.first = Bytes::copy_from_slice(data);
        } else {
            self.more.extend_from_slice(data);
        }
    }

    pub fn take(&mut self) -> Bytes {
        if self.first.is_empty() {
            self.first = Bytes::from(std::mem::take(&mut self.more));
        }
        if self.first.len() > PIECE { self.first.split_to(PIECE) } else { std::mem::take(&mut self.first) }
    }

    pub fn kept(&self) -> usize {
        self.first.len() + self.more.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_bytes_is_kept_in_its_own_size() {
        let mut stream: Stream<()> = Stream::new(1, 65_535, 65_535, ());
        for n in 0..100_000u32 {
            stream.keep(&[n as u8]);
        }
        assert_eq!(stream.kept(), 100_000);
        assert!(stream.more.capacity() <= 2 * 100_000);
        let mut all = Vec::new();
        while stream.kept() > 0 {
            let piece = stream.take();
            assert!(piece.len() <= PIECE);
            all.extend_from_slice(&piece);
        }
        assert!(all.iter().enumerate().all(|(n, byte)| n as u8 == *byte));
    }
}
