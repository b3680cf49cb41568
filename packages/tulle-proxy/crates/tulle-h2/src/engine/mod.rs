//! The connection: what it is made of, and what its owner asks of it. Reading, writing and heads are in the files beside.

mod control;
mod heads;
mod read;
mod write;

use std::collections::VecDeque;
use std::task::Waker;

use crate::fields::Fields;
use crate::flood::Flood;
use crate::frame::{self, Header, MAX_WINDOW, PREFACE, kind};
use crate::hpack::{Decoder, Encoder};
use crate::reason::Reason;
use crate::settings::{Announced, Settings};
use crate::store::{Key, Store};

/// Heads whose memory is kept.
const SPARE: usize = 4;

/// How a connection is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Body bytes that a peer may send ahead on one stream, and on all of them: what bounds memory.
    pub stream_window: u32,
    pub connection_window: u32,
    /// Streams that a client may have open with us.
    pub max_streams: u32,
    /// Bytes of one decoded head, 32 of them for each field besides its text.
    pub header_list: u32,
    /// Whether a client may ask for another protocol by CONNECT (RFC 8441); offered by the serving end.
    pub extended_connect: bool,
}

/// Which head of a message a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadKind {
    Request,
    Response,
    Trailers,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Server,
    Client,
}

/// How far the end of the connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaving {
    No,
    /// The first GOAWAY was sent; its PING is on the way.
    Warned,
    /// No stream after the last one told is served.
    Final,
}

/// Where reading stands.
pub(crate) enum Reading {
    /// Bytes of the preface seen so far.
    Preface(usize),
    Frame,
    /// Inside a DATA frame.
    Data(read::DataFrame),
}

/// One connection, either end. `F` is where heads are kept.
pub struct Engine<F> {
    role: Role,
    config: Config,
    peer: Settings,
    settings_seen: bool,
    decoder: Decoder,
    encoder: Encoder,
    store: Store<F>,
    flood: Flood,
    reading: Reading,
    /// The beginning of a frame whose end has not come.
    carry: Vec<u8>,
    /// A header block that goes on in the next frame.
    block: Option<heads::Block>,
    out: Vec<u8>,
    sent: usize,
    /// Control frames in `out`.
    queued: u32,
    send_window: i64,
    recv_window: i64,
    unreleased: usize,
    /// Writers that wait for the connection's window, or for `out` to be sent.
    blocked: VecDeque<Key>,
    accepted: VecDeque<Key>,
    /// The highest stream of the peer (server), and our next one (client).
    last_peer: u32,
    next_own: u32,
    leaving: Leaving,
    /// The last stream that the peer's GOAWAY promises to have looked at.
    peer_leaving: Option<u32>,
    failed: Option<Reason>,
    closed: bool,
    pinging: bool,
    /// Whoever waits for the peer's SETTINGS.
    curious: Vec<Waker>,
    /// Used heads' memory, for those to come.
    spare: Vec<F>,
}

impl<F: Fields> Engine<F> {
    /// The serving end; the preface has not been read yet.
    pub fn server(config: Config) -> Engine<F> {
        let mut engine = Engine::new(Role::Server, config);
        engine.reading = Reading::Preface(0);
        engine.announce(Some(config.max_streams));
        engine
    }

    /// The asking end.
    pub fn client(config: Config) -> Engine<F> {
        let mut engine = Engine::new(Role::Client, config);
        engine.out.extend_from_slice(PREFACE);
        engine.announce(None);
        // Until the peer has told.
        engine.peer.max_streams = 100;
        engine
    }

    fn new(role: Role, config: Config) -> Engine<F> {
        Engine {
            role,
            config,
            peer: Settings::default(),
            settings_seen: false,
            decoder: Decoder::new::<F>(4096),
            encoder: Encoder::new(),
            store: Store::new(),
            flood: Flood::new(),
            reading: Reading::Frame,
            carry: Vec::new(),
            block: None,
            out: Vec::new(),
            sent: 0,
            queued: 0,
            send_window: 65_535,
            recv_window: i64::from(config.connection_window),
            unreleased: 0,
            blocked: VecDeque::new(),
            accepted: VecDeque::new(),
            last_peer: 0,
            next_own: 1,
            leaving: Leaving::No,
            peer_leaving: None,
            failed: None,
            closed: false,
            pinging: false,
            curious: Vec::new(),
            spare: Vec::new(),
        }
    }

    fn announce(&mut self, max_streams: Option<u32>) {
        let Config { stream_window, header_list, connection_window, extended_connect, .. } = self.config;
        Announced { window: stream_window, header_list, max_streams, extended_connect }.write(&mut self.out);
        if let Some(more) = connection_window.checked_sub(65_535).filter(|more| *more > 0) {
            frame::put_window(&mut self.out, 0, more);
        }
    }

    /// The next stream that the peer opened (server).
    pub fn accept(&mut self) -> Option<Key> {
        self.accepted.pop_front()
    }

    /// Takes a head's memory back.
    pub fn recycle(&mut self, mut fields: F) {
        if self.spare.len() < SPARE {
            fields.clear();
            self.spare.push(fields);
        }
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// The first `n` bytes of the output have been sent.
    pub fn advance(&mut self, n: usize) {
        self.sent += n;
        if self.sent == self.out.len() {
            self.sent = 0;
            self.queued = 0;
            self.out.clear();
            // A connection that is idle keeps next to nothing.
            if self.out.capacity() > if self.store.live() == 0 { 1024 } else { write::HIGH } {
                self.out = Vec::new();
            }
            self.unblock();
        } else if self.sent >= write::HIGH / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
            self.unblock();
        }
    }

    /// Whether another stream may be opened at once (client).
    pub fn has_room(&self) -> bool {
        self.is_open() && self.store.live() < self.peer.max_streams as usize
    }

    /// Whether further streams may ever be opened.
    pub fn is_open(&self) -> bool {
        !self.closed
            && self.failed.is_none()
            && self.peer_leaving.is_none()
            && self.leaving == Leaving::No
            && i64::from(self.next_own) < MAX_WINDOW
    }

    /// Streams neither reset nor ended on both sides.
    pub fn live(&self) -> usize {
        self.store.live()
    }

    /// Whether any stream is left, be it only to be read to its end.
    pub fn has_streams(&self) -> bool {
        self.store.live() > 0 || !self.accepted.is_empty()
    }

    /// Streams that somebody still holds.
    pub fn held(&self) -> usize {
        self.store.held()
    }

    /// The stream of the head whose beginning has come and whose end has not.
    pub fn head_begun(&self) -> Option<u32> {
        let partial = self.carry.first_chunk().map(Header::read).filter(|header| header.kind == kind::HEADERS);
        self.block.as_ref().map(|block| block.stream).or(partial.map(|header| header.stream))
    }

    /// Nothing more will happen once the output has been sent: the socket may be closed.
    pub fn is_done(&self) -> bool {
        let left = self.leaving == Leaving::Final || (self.role == Role::Client && self.peer_leaving.is_some());
        self.closed || self.failed.is_some() || (left && !self.has_streams())
    }

    /// Why the connection failed, if the peer broke its rules.
    pub fn failed(&self) -> Option<Reason> {
        self.failed
    }

    /// The peer's SETTINGS on extended CONNECT (RFC 8441); `None` until they have come.
    pub fn extended_connect(&mut self, waker: &Waker) -> Option<bool> {
        if self.settings_seen || self.closed || self.failed.is_some() {
            return Some(self.peer.extended_connect);
        }
        self.curious.push(waker.clone());
        None
    }
}
