//! One end of an exchange, HTTP/1 connection or HTTP/2 stream alike, and the pump that moves a body between two ends.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::body::{Broken, Piece};
use crate::h1::conn::{Connection, NoHead};
use crate::h1::encode::Fate;
use crate::h2::{H2Stream, Link, Reason, head as h2_head};
use crate::head::{Expect, RequestHead, ResponseHead};
use crate::headers::Headers;
use crate::throttle::Throttle;

/// An end that a body is read from and another body is written to.
pub enum Side {
    H1(Box<Connection>),
    H2(Box<H2Stream>),
}

impl Side {
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        match self {
            Side::H1(c) => c.poll_body(cx),
            Side::H2(s) => s.poll_body(cx),
        }
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Side::H1(c) => c.poll_flush(cx).map_err(Broken::from),
            Side::H2(s) => s.poll_flush(cx),
        }
    }

    pub fn write(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        match self {
            Side::H1(c) => c.write(data, last),
            Side::H2(s) => s.write(data, last),
        }
    }

    pub fn end(&mut self, trailers: Option<&Headers>) -> Result<(), Broken> {
        match self {
            Side::H1(c) => c.end(trailers),
            Side::H2(s) => s.end(trailers),
        }
    }

    /// After the end of a tunnel's direction: passes the end on by closing the writing half.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Side::H1(c) if c.ends_by_close() => c.poll_shutdown(cx).map_err(Broken::from),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Makes the close that follows a reset.
    pub fn abort(&mut self) {
        match self {
            // When it fails the socket is gone already.
            Side::H1(c) => drop(c.stream().tcp().set_zero_linger()),
            Side::H2(s) => s.reset(Reason::CANCEL),
        }
    }

    /// Ready when the peer has gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Side::H1(c) => c.poll_gone(cx),
            Side::H2(s) => s.poll_gone(cx),
        }
    }

    /// Whether the peer gave its stream up, its connection living on.
    pub fn was_reset(&self) -> bool {
        matches!(self, Side::H2(s) if s.was_reset())
    }

    pub fn read_ended(&self) -> bool {
        match self {
            Side::H1(c) => c.read_ended(),
            Side::H2(s) => s.read_ended(),
        }
    }

    /// The next response's head: the final one, a 101 to an upgrade, or an interim one where those are to be passed on.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        expect: Expect<'_>,
        out: &mut ResponseHead,
    ) -> Poll<Result<(), NoHead>> {
        match self {
            Side::H1(c) => c.poll_response(cx, expect, out),
            Side::H2(s) => {
                let mut arrived = ready!(s.poll_response(cx, expect.interim)).map_err(NoHead::Broken)?;
                let read = h2_head::response_in(&mut arrived, s.read_ended(), expect.to, out);
                s.recycle(arrived);
                Poll::Ready(Ok(read?))
            }
        }
    }

    /// Queues a response's head. A body must follow unless `head.framing` is empty.
    pub fn respond(&mut self, head: &ResponseHead, fate: Fate) -> Result<(), Broken> {
        match self {
            Side::H1(c) => {
                c.queue_response(head, fate);
                Ok(())
            }
            Side::H2(s) => s.respond(head, head.framing.is_empty() && !matches!(fate, Fate::Upgrade | Fate::Tunnel)),
        }
    }

    /// Queues an interim response's head (1xx); it goes with the next flush.
    pub fn interim(&mut self, head: &ResponseHead) -> Result<(), Broken> {
        match self {
            Side::H1(c) => {
                c.queue_response(head, Fate::Keep);
                Ok(())
            }
            Side::H2(s) => s.interim(head),
        }
    }

    /// Whether something is queued that only a flush sends.
    pub fn has_queued(&self) -> bool {
        matches!(self, Side::H1(c) if c.has_queued())
    }
}

/// Opens a stream on an HTTP/2 connection, and sends the request's head.
///
/// # Errors
/// See [`Link::open`].
pub fn open_h2(link: &Rc<Link>, head: &RequestHead) -> Result<Side, Broken> {
    Ok(Side::H2(Box::new(link.open(head)?)))
}

/// On which end moving a body failed.
#[derive(Debug)]
pub enum PumpError {
    Read(Broken),
    Write(Broken),
}

impl PumpError {
    /// Whether the peer aborted the connection.
    pub fn is_reset(&self) -> bool {
        let (PumpError::Read(broken) | PumpError::Write(broken)) = self;
        matches!(broken, Broken::Io(std::io::ErrorKind::ConnectionReset))
    }
}

/// A copy of a body, for as long as it fits.
#[derive(Debug)]
pub struct BodyCopy {
    data: Option<Vec<u8>>,
    room: usize,
}

impl BodyCopy {
    /// With room for so many bytes.
    pub fn up_to(room: usize) -> BodyCopy {
        BodyCopy { data: Some(Vec::new()), room }
    }

    fn take(&mut self, data: &[u8]) {
        match self.data.take() {
            Some(mut copied) if copied.len() + data.len() <= self.room => {
                copied.extend_from_slice(data);
                self.data = Some(copied);
            }
            _ => {}
        }
    }

    /// The body, unless it was too large.
    pub fn whole(self) -> Option<Vec<u8>> {
        self.data
    }
}

/// The trailers to be added to a message.
pub type Trailing = Box<dyn FnOnce() -> Headers>;

/// Moves one body from one end to another, holding at most one piece.
#[derive(Default)]
pub struct Pump {
    /// Body bytes moved.
    pub bytes: u64,
    /// Takes a copy of what passes.
    pub copy: Option<BodyCopy>,
    /// What the message ended with.
    pub trailers: Option<Box<Headers>>,
    /// Holds the body to a rate.
    pub throttle: Option<Box<Throttle>>,
    /// Makes trailers, or further ones, once the body has passed.
    pub trailing: Option<Trailing>,
    /// Made, and not yet sent.
    made: Option<Box<Headers>>,
    /// The first piece has been asked for, so that it could leave together with the head.
    begun: bool,
    ended: bool,
    done: bool,
}

impl Pump {
    /// A pump for a message without a body: only what is queued has still to be sent.
    pub fn finished() -> Pump {
        Pump { ended: true, begun: true, ..Pump::default() }
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Every piece has been read, though perhaps not yet been sent.
    pub fn read_all(&self) -> bool {
        self.ended
    }

    pub fn poll(&mut self, cx: &mut Context<'_>, from: &mut Side, to: &mut Side) -> Poll<Result<(), PumpError>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        if !self.begun {
            self.begun = true;
            if self.throttle.is_none()
                && let Poll::Ready(piece) = from.poll_body(cx)
            {
                self.pass(piece.map_err(PumpError::Read)?, to).map_err(PumpError::Write)?;
            }
        }
        loop {
            ready!(to.poll_flush(cx)).map_err(PumpError::Write)?;
            if let Some(made) = self.made.take() {
                to.end(Some(&made)).map_err(PumpError::Write)?;
                self.trailers = Some(made);
                continue;
            }
            if self.ended {
                ready!(to.poll_finish(cx)).map_err(PumpError::Write)?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            let piece = match &mut self.throttle {
                None => ready!(from.poll_body(cx)).map_err(PumpError::Read)?,
                Some(throttle) => {
                    let piece = match throttle.take_held() {
                        Some(piece) => piece,
                        None => ready!(from.poll_body(cx)).map_err(PumpError::Read)?,
                    };
                    ready!(throttle.poll(cx, piece))
                }
            };
            self.pass(piece, to).map_err(PumpError::Write)?;
        }
    }

    /// Gives one piece to the writing end; it must have been flushed.
    pub fn pass(&mut self, piece: Piece, to: &mut Side) -> Result<(), Broken> {
        match piece {
            Piece::Data { data, last } => {
                self.bytes += data.len() as u64;
                self.ended = last;
                if let Some(copy) = &mut self.copy {
                    copy.take(&data);
                }
                if last && let Some(make) = self.trailing.take() {
                    self.made = Some(Box::new(make()));
                    return to.write(data, false);
                }
                to.write(data, last)
            }
            Piece::Trailers(mut list) => {
                self.ended = true;
                if let Some(make) = self.trailing.take() {
                    make().iter().for_each(|(_, name, value)| list.push(name, value));
                }
                let ended = to.end(Some(&list));
                self.trailers = Some(list);
                ended
            }
            Piece::End => {
                self.ended = true;
                match self.trailing.take() {
                    Some(make) => to.end(Some(&make())),
                    None => to.end(None),
                }
            }
        }
    }
}
