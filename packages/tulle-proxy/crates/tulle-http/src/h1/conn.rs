//! One HTTP/1.1 connection, either end: reads heads and bodies, queues what is written and sends it in few system calls.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Decoded, Decoder};
use super::encode::{self, Fate};
use super::parse::{self, HeadScan};
use super::spelling::{Case, Spelling};
use super::{Limits, Refused};
use crate::body::{Broken, Piece};
use crate::head::{Expect, Framing, Interim, RequestHead, ResponseHead, To};
use crate::headers::Headers;
use crate::stream::Stream;

/// Read at once. All connections of a worker read into one shared scratch buffer, so an idle one holds no buffer.
const SCRATCH: usize = 32 * 1024;
/// Body pieces up to this size are copied behind the head into one plain write.
const COPY: usize = 4096;
/// Buffers larger than this are given back when a connection falls idle.
const KEEP: usize = 2048;

thread_local! {
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Why no head came.
#[derive(Debug)]
pub enum NoHead {
    /// The peer closed before the first byte of a message.
    Closed,
    /// The message broke off or is malformed.
    Broken(Broken),
}

impl From<Refused> for NoHead {
    fn from(e: Refused) -> NoHead {
        NoHead::Broken(Broken::Refused(e))
    }
}

/// Whether trailers are taken and written on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trailers {
    Drop,
    Forward,
}

pub struct Connection {
    stream: Stream,
    input: BytesMut,
    scan: HeadScan,
    eof: bool,
    decoder: Decoder,
    trailers: Headers,
    out: Vec<u8>,
    out_at: usize,
    body: Bytes,
    tail: &'static [u8],
    framing_out: Framing,
    unflushed: bool,
    pub trailer_mode: Trailers,
    /// Of header names that are written.
    pub case: Case,
    /// Bytes read from and written to the peer since the connection was made.
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Connection {
    pub fn new(stream: Stream) -> Connection {
        Connection {
            stream,
            input: BytesMut::new(),
            scan: HeadScan::default(),
            eof: false,
            decoder: Decoder::new(Framing::None),
            trailers: Headers::default(),
            out: Vec::new(),
            out_at: 0,
            body: Bytes::new(),
            tail: b"",
            framing_out: Framing::None,
            unflushed: false,
            trailer_mode: Trailers::Drop,
            case: Case::Lower,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// A connection on which `read` has already been received.
    pub fn with_input(stream: Stream, read: &[u8]) -> Connection {
        let mut connection = Connection::new(stream);
        connection.input.extend_from_slice(read);
        connection
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Gives the stream back with what was read from it but not used.
    pub fn into_stream(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }

    /// Reads once; 0 means the peer closed its side.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        SHARED.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            let read = buf.filled();
            self.eof = read.is_empty();
            self.bytes_in += read.len() as u64;
            self.input.extend_from_slice(read);
            Poll::Ready(Ok(read.len()))
        })
    }

    /// Waits for the first byte of the next message.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoHead>> {
        while self.input.is_empty() {
            match ready!(self.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Err(NoHead::Closed)),
                Ok(_) => {}
                Err(e) => return Poll::Ready(Err(NoHead::Broken(e.into()))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until what has come either is `wanted` or can no longer become it. Nothing is used up.
    pub fn poll_starts_with(&mut self, cx: &mut Context<'_>, wanted: &[u8]) -> Poll<bool> {
        loop {
            let n = self.input.len().min(wanted.len());
            if self.input[..n] != wanted[..n] {
                return Poll::Ready(false);
            }
            if n == wanted.len() {
                return Poll::Ready(true);
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(false),
                Ok(_) => {}
            }
        }
    }

    /// Reads and drops until the peer closes.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.input.clear();
            match ready!(self.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }

    /// Waits for a whole head and says how long it is.
    fn poll_head(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<Result<usize, NoHead>> {
        loop {
            if let Some(n) = self.scan.advance(&self.input, limits)? {
                self.scan = HeadScan::default();
                return Poll::Ready(Ok(n));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if self.input.is_empty() => return Poll::Ready(Err(NoHead::Closed)),
                Ok(0) => return Poll::Ready(Err(NoHead::Broken(Broken::Closed))),
                Ok(_) => {}
                Err(e) => return Poll::Ready(Err(NoHead::Broken(e.into()))),
            }
        }
    }

    pub fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        out: &mut RequestHead,
    ) -> Poll<Result<(), NoHead>> {
        let n = ready!(self.poll_head(cx, limits))?;
        let parsed = parse::request(&self.input[..n], limits, out);
        self.input.advance(n);
        parsed?;
        self.begin_read(out.framing);
        Poll::Ready(Ok(()))
    }

    /// The next response that is final, or a 101 to an upgrade; other informational ones are skipped unless asked for.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        Expect { limits, to, interim }: Expect<'_>,
        out: &mut ResponseHead,
    ) -> Poll<Result<(), NoHead>> {
        loop {
            let n = ready!(self.poll_head(cx, limits))?;
            let parsed = parse::response(&self.input[..n], limits, to, out);
            self.input.advance(n);
            parsed?;
            match out.status {
                101 if to == To::Upgrade => {}
                101 => return Poll::Ready(Err(Refused::Syntax.into())),
                _ if interim == Interim::Pass && out.is_passable() => return Poll::Ready(Ok(())),
                _ if out.is_informational() => continue,
                _ => {}
            }
            self.begin_read(out.framing);
            return Poll::Ready(Ok(()));
        }
    }

    /// The body that follows is framed like this. [`Framing::Close`] makes a tunnel of the connection's reading side.
    pub fn begin_read(&mut self, framing: Framing) {
        self.decoder = Decoder::new(framing);
    }

    /// The body that will be written is framed like this.
    pub fn begin_write(&mut self, framing: Framing) {
        self.framing_out = framing;
    }

    pub fn queue_request(&mut self, head: &RequestHead, fate: Fate) {
        encode::request(&mut self.out, head, fate, self.case);
        self.begin_write(head.framing);
    }

    pub fn queue_response(&mut self, head: &ResponseHead, fate: Fate) {
        encode::response(&mut self.out, head, fate, self.case);
        self.begin_write(head.framing);
    }

    /// Queues bytes as they are (`100 Continue`).
    pub fn queue_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Whether something waits to be flushed.
    pub fn has_queued(&self) -> bool {
        self.out_at < self.out.len()
    }

    /// Whether the body being read has ended.
    pub fn read_ended(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether body bytes, or bytes of the next message, have been received and not been used.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        loop {
            let decoded = self.decoder.decode(&mut self.input, &mut self.trailers)?;
            if self.trailer_mode == Trailers::Drop {
                self.trailers.clear();
            }
            match decoded {
                Decoded::Data { data, last } if last && !self.trailers.is_empty() => {
                    // The data goes first; the trailers are handed out by the next call, which finds `Done`.
                    return Poll::Ready(Ok(Piece::Data { data, last: false }));
                }
                Decoded::Data { data, last } => return Poll::Ready(Ok(Piece::Data { data, last })),
                Decoded::End if !self.trailers.is_empty() => {
                    return Poll::Ready(Ok(Piece::Trailers(Box::new(std::mem::take(&mut self.trailers)))));
                }
                Decoded::End => return Poll::Ready(Ok(Piece::End)),
                Decoded::More => {}
            }
            if ready!(self.poll_fill(cx))? == 0 {
                if !self.decoder.ends_at_close() {
                    return Poll::Ready(Err(Broken::Closed));
                }
                self.decoder.close();
            }
        }
    }

    /// Queues body bytes; only after a completed [`Connection::poll_flush`] or directly behind a head.
    pub fn write(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        match &mut self.framing_out {
            Framing::None => return Ok(()),
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Broken::Refused(Refused::Framing))?;
                self.place(data);
                return if last { self.end(None) } else { Ok(()) };
            }
            Framing::Close => {
                self.place(data);
                return if last { self.end(None) } else { Ok(()) };
            }
            Framing::Delimited if data.is_empty() => return if last { self.end(None) } else { Ok(()) },
            Framing::Delimited => {}
        }
        encode::chunk_size(&mut self.out, data.len());
        self.place(data);
        let tail: &'static [u8] = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
        if self.body.is_empty() {
            self.out.extend_from_slice(tail);
        } else {
            self.tail = tail;
        }
        Ok(())
    }

    fn place(&mut self, data: Bytes) {
        if data.len() <= COPY && self.body.is_empty() {
            self.out.extend_from_slice(&data);
        } else {
            self.body = data;
        }
    }

    /// Queues the end of a body that did not end with its last bytes.
    pub fn end(&mut self, trailers: Option<&Headers>) -> Result<(), Broken> {
        match self.framing_out {
            Framing::None | Framing::Length(0) | Framing::Close => Ok(()),
            Framing::Length(_) => Err(Broken::Refused(Refused::Framing)),
            Framing::Delimited => {
                self.out.extend_from_slice(b"0\r\n");
                if let (Some(list), Trailers::Forward) = (trailers, self.trailer_mode) {
                    for (_, name, value) in list.iter().filter(|(_, name, _)| super::body::trailer_allowed(name)) {
                        Spelling::of(None, self.case).write(&mut self.out, name);
                        self.out.extend_from_slice(b": ");
                        self.out.extend_from_slice(value);
                        self.out.extend_from_slice(b"\r\n");
                    }
                }
                self.out.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    /// Sends everything queued: normally one system call.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let head = &self.out[self.out_at..];
            if head.is_empty() && self.body.is_empty() && self.tail.is_empty() {
                break;
            }
            let stream = Pin::new(&mut self.stream);
            let n = if self.body.is_empty() && self.tail.is_empty() {
                ready!(stream.poll_write(cx, head))?
            } else {
                let parts = [IoSlice::new(head), IoSlice::new(&self.body), IoSlice::new(self.tail)];
                ready!(stream.poll_write_vectored(cx, &parts))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written(n);
        }
        self.out.clear();
        self.out_at = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn written(&mut self, n: usize) {
        self.unflushed = self.stream.is_tls();
        self.bytes_out += n as u64;
        let head = n.min(self.out.len() - self.out_at);
        let body = (n - head).min(self.body.len());
        self.out_at += head;
        self.body.advance(body);
        if self.body.is_empty() {
            self.body = Bytes::new();
        }
        self.tail = &self.tail[n - head - body..];
    }

    /// Closes the writing side (a tunnel's half-close, or a polite end).
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Whether the outgoing message ends by closing.
    pub fn ends_by_close(&self) -> bool {
        self.framing_out == Framing::Close
    }

    /// Ready when the peer has gone while nothing is expected of it. Bytes of a pipelined message are kept.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.input.is_empty() {
            return Poll::Pending;
        }
        match self.poll_fill(cx) {
            Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Whether an idle pooled connection may carry another message: still open, and nothing unasked for arrived.
    pub fn is_fresh(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.input.is_empty() && !self.eof && self.poll_fill(&mut cx).is_pending()
    }

    /// Gives large buffers back before waiting for the next message.
    pub fn idle(&mut self) {
        if self.out.capacity() > KEEP {
            self.out = Vec::new();
        }
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::new();
        }
    }
}
