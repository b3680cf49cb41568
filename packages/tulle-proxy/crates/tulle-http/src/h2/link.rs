//! One HTTP/2 connection: the engine and its socket, shared by the task that reads and the tasks of its streams.
//!
//! Streams put their frames into the engine's output. While others are open it is sent by the reading task, after
//! everything that is ready to run has run: many streams' frames leave in one system call. A lone stream sends itself.

use std::cell::{RefCell, RefMut};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tulle_h2::{Config, Engine, Reason};

use super::arrived::Arrived;
use super::head;
use super::stream::H2Stream;
use crate::body::Broken;
use crate::head::{Framing, RequestHead, Tunnel};
use crate::stream::Stream;

/// Read at once, by all connections of a worker in turn, so that an idle one holds no buffer.
const SCRATCH: usize = 64 * 1024;

/// Reads after which a connection lets others have their turn, however much there is to read.
const READS: usize = 4;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Milliseconds since the first use.
fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

pub struct Link(RefCell<State>);

pub(super) struct State {
    pub engine: Engine<Arrived>,
    stream: Stream,
    /// Read while the protocol was being told.
    seen: BytesMut,
    driver: Option<Waker>,
    /// The driver has been asked to send.
    asked: bool,
    /// Nobody will open streams any more: it ends with the last one.
    retiring: bool,
    /// Ciphertext may wait below an empty output.
    unflushed: bool,
}

impl Link {
    /// The serving end, on which `seen` has already been read.
    pub fn server(stream: Stream, seen: BytesMut, config: Config) -> Rc<Link> {
        Link::new(stream, seen, Engine::server(config))
    }

    /// The asking end.
    pub fn client(stream: Stream, config: Config) -> Rc<Link> {
        Link::new(stream, BytesMut::new(), Engine::client(config))
    }

    fn new(stream: Stream, seen: BytesMut, engine: Engine<Arrived>) -> Rc<Link> {
        Rc::new(Link(RefCell::new(State {
            engine,
            stream,
            seen,
            driver: None,
            asked: false,
            retiring: false,
            unflushed: false,
        })))
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Drives the connection, and returns the next stream that the client opens; `None` when there will be none.
    pub fn poll_accept(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<Option<H2Stream>> {
        let mut state = self.state();
        for _ in 0..READS {
            if let Some(key) = state.engine.accept() {
                return Poll::Ready(Some(H2Stream::accepted(self.clone(), key)));
            }
            if ready!(state.poll_turn(cx)).is_none() {
                return Poll::Ready(None);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Drives the connection until it has ended (the asking end).
    pub fn poll_drive(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        for _ in 0..READS {
            if ready!(state.poll_turn(cx)).is_none() {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// After the end: what is left is sent, our side is closed, and what the peer still sends is read and dropped, so
    /// that the reset which unread bytes cause does not overtake our last words.
    pub fn poll_goodbye(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        state.driver = None;
        if state.poll_send(cx).is_pending() {
            return Poll::Pending;
        }
        if ready!(Pin::new(&mut state.stream).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        SHARED.with_borrow_mut(|scratch| {
            loop {
                let mut buf = ReadBuf::new(scratch);
                let read = ready!(Pin::new(&mut state.stream).poll_read(cx, &mut buf));
                if read.is_err() || buf.filled().is_empty() {
                    return Poll::Ready(());
                }
            }
        })
    }

    /// Opens a stream with a request's head.
    ///
    /// # Errors
    /// `REFUSED_STREAM` when the connection has no room for it: it was not sent.
    pub fn open(self: &Rc<Self>, request: &RequestHead) -> Result<H2Stream, Broken> {
        let end = request.framing == Framing::None && request.tunnel == Tunnel::No;
        let mut state = self.state();
        let key = state.engine.open(request.is_head(), end, |block| head::request_out(request, block));
        let key = key.ok_or(Broken::Reset(Reason::REFUSED_STREAM))?;
        Ok(H2Stream::opened(self.clone(), key))
    }

    /// Whether another stream may be opened at once.
    pub fn has_room(&self) -> bool {
        self.state().engine.has_room()
    }

    /// Whether further streams may ever be opened.
    pub fn is_open(&self) -> bool {
        self.state().engine.is_open()
    }

    /// Whether any stream is open.
    pub fn has_streams(&self) -> bool {
        self.state().engine.has_streams()
    }

    /// See [`Engine::head_begun`].
    pub fn head_begun(&self) -> Option<u32> {
        self.state().engine.head_begun()
    }

    /// Whether nothing more will happen but that the last bytes are sent.
    pub fn is_done(&self) -> bool {
        self.state().engine.is_done()
    }

    /// Ready with whether the peer takes extended CONNECT, once its SETTINGS have come (RFC 8441 §3).
    pub fn poll_extended_connect(&self, cx: &mut Context<'_>) -> Poll<bool> {
        match self.state().engine.extended_connect(cx.waker()) {
            Some(allowed) => Poll::Ready(allowed),
            None => Poll::Pending,
        }
    }

    /// Asks the peer to go elsewhere (GOAWAY); streams that are open, or on their way, are still served.
    pub fn shutdown(&self) {
        let mut state = self.state();
        state.engine.shutdown();
        state.ask();
    }

    /// Nobody will open streams any more: the connection ends with the last of those there are.
    pub fn retire(&self) {
        let mut state = self.state();
        state.retiring = true;
        state.wake();
    }

    /// Ends the connection at once, with a reason for the peer.
    pub fn abandon(&self, reason: Reason) {
        let mut state = self.state();
        state.engine.abandon(reason);
        state.ask();
    }

    /// Ends every stream without another word to the peer: the socket closes when their tasks have seen it.
    pub fn sever(&self) {
        self.state().engine.close();
    }

    /// Asks whether the peer is still there.
    pub fn ping(&self) {
        let mut state = self.state();
        state.engine.ping();
        state.ask();
    }

    /// Whether a ping is not answered yet.
    pub fn awaits_pong(&self) -> bool {
        self.state().engine.awaits_pong()
    }
}

impl State {
    /// Sends, then reads once. `None` when the connection has ended.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if !self.driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.driver = Some(cx.waker().clone());
        }
        self.asked = false;
        let sent = self.poll_send(cx);
        if let Poll::Ready(Err(_)) = sent {
            self.engine.close();
            return Poll::Ready(None);
        }
        if self.retiring && self.engine.held() == 0 {
            self.engine.abandon(Reason::NO_ERROR);
        }
        // Nobody waits for a peer that does not even read our goodbye.
        if self.engine.is_done() && (self.poll_send(cx).is_ready() || self.retiring) {
            return Poll::Ready(None);
        }
        match ready!(self.poll_read(cx)) {
            Ok(true) => Poll::Ready(Some(())),
            Ok(false) | Err(_) => {
                self.engine.close();
                Poll::Ready(None)
            }
        }
    }

    /// Reads once; false at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.seen.is_empty() {
            let seen = std::mem::take(&mut self.seen);
            self.engine.receive(&seen, clock);
            return Poll::Ready(Ok(true));
        }
        SHARED.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            self.engine.receive(buf.filled(), clock);
            Poll::Ready(Ok(!buf.filled().is_empty()))
        })
    }

    /// Sends what there is. A full socket wakes the driver.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.engine.output().is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, self.engine.output()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.engine.advance(n);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// A stream has written all it has for now.
    pub(super) fn flush(&mut self) {
        if self.engine.output().is_empty() {
            return;
        }
        // With others about, their frames may follow at once and leave together with these.
        if self.engine.live() > 1 {
            return self.ask();
        }
        let Some(driver) = self.driver.clone() else { return };
        // What does not go now, or goes wrong, is the driver's affair.
        if !matches!(self.poll_send(&mut Context::from_waker(&driver)), Poll::Ready(Ok(()))) {
            driver.wake();
        }
    }

    /// Has the driver send what there is, after everything that is ready to run.
    pub(super) fn ask(&mut self) {
        if !self.asked && (self.retiring || !self.engine.output().is_empty() || self.engine.is_done()) {
            self.asked = true;
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }
}
