//! One HTTP/2 stream, either end; flow control carries back-pressure both ways.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tulle_h2::{Body, Gone, Key, Malformed, Reason};

use super::arrived::Arrived;
use super::{Link, head};
use crate::body::{Broken, Piece};
use crate::h1::Refused;
use crate::head::{Interim, ResponseHead};
use crate::headers::Headers;

/// A stream's two directions. Dropping it resets what has not ended.
pub struct H2Stream {
    link: Rc<Link>,
    key: Key,
    read_ended: bool,
    queued: Bytes,
    queued_last: bool,
}

/// A request as it arrived, and what is wrong with it.
pub struct Request {
    pub head: Arrived,
    pub fault: Option<Malformed>,
    /// The client has already taken it back.
    pub gone: bool,
}

impl H2Stream {
    /// The serving side.
    pub(super) fn accepted(link: Rc<Link>, key: Key) -> H2Stream {
        H2Stream { link, key, read_ended: false, queued: Bytes::new(), queued_last: false }
    }

    /// The asking side.
    pub(super) fn opened(link: Rc<Link>, key: Key) -> H2Stream {
        H2Stream::accepted(link, key)
    }

    /// The request (serving side); it may be taken once.
    pub fn request(&mut self, cx: &mut Context<'_>) -> Option<Request> {
        let mut state = self.link.state();
        let (head, fault, ended) = state.engine.take_head(self.key, cx.waker())?.ok()?;
        self.read_ended = ended;
        let gone = state.engine.cut(self.key).is_some();
        Some(Request { head, fault, gone })
    }

    /// Takes a head's memory back, for the next one on the connection.
    pub fn recycle(&mut self, arrived: Arrived) {
        self.link.state().engine.recycle(arrived);
    }

    /// Sends the response's head; `end` when there is no body.
    pub fn respond(&mut self, response: &ResponseHead, end: bool) -> Result<(), Broken> {
        let mut state = self.link.state();
        Ok(state.engine.respond(self.key, end, |block| head::response_out(response, block))?)
    }

    /// Tells the client to go on with its body (RFC 9110 §10.1.1).
    pub fn go_on(&mut self) -> Result<(), Broken> {
        let mut state = self.link.state();
        state.engine.interim(self.key, |block| block.status(100))?;
        state.flush();
        Ok(())
    }

    /// Sends an interim response's head; the final one follows.
    pub fn interim(&mut self, response: &ResponseHead) -> Result<(), Broken> {
        let mut state = self.link.state();
        state.engine.interim(self.key, |block| head::response_out(response, block))?;
        state.flush();
        Ok(())
    }

    /// Waits for the final response's head, or for an interim one where those are to be passed on; the body is read from
    /// this stream afterwards.
    pub fn poll_response(&mut self, cx: &mut Context<'_>, interim: Interim) -> Poll<Result<Arrived, Broken>> {
        let mut state = self.link.state();
        loop {
            match state.engine.take_head(self.key, cx.waker()) {
                None => return Poll::Pending,
                Some(Err(gone)) => return Poll::Ready(Err(gone.into())),
                Some(Ok((head, ..))) if head.status < 200 && interim == Interim::Drop => {
                    state.engine.recycle(head);
                }
                Some(Ok((head, _, ended))) => {
                    self.read_ended = ended;
                    return Poll::Ready(Ok(head));
                }
            }
        }
    }

    pub fn read_ended(&self) -> bool {
        self.read_ended
    }

    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        if self.read_ended {
            return Poll::Ready(Ok(Piece::End));
        }
        let mut state = self.link.state();
        let body = state.engine.read(self.key, cx.waker());
        // Windows that were opened again.
        state.ask();
        let piece = match body {
            Body::Wait => return Poll::Pending,
            Body::Gone(gone) => return Poll::Ready(Err(gone.into())),
            Body::Data { data, last } => {
                self.read_ended = last;
                Piece::Data { data, last }
            }
            Body::Trailers(list) => {
                self.read_ended = true;
                Piece::Trailers(Box::new(head::trailers_in(list)))
            }
            Body::End => {
                self.read_ended = true;
                Piece::End
            }
        };
        Poll::Ready(Ok(piece))
    }

    /// Queues a part of the body; the one before must have been flushed.
    pub fn write(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        (self.queued, self.queued_last) = (data, last);
        if self.queued.is_empty() && !last {
            return Ok(());
        }
        // Its room is asked for when it is flushed.
        let waker = std::task::Waker::noop();
        Ok(self.link.state().engine.send(self.key, &mut self.queued, last, waker)?)
    }

    pub fn end(&mut self, trailers: Option<&Headers>) -> Result<(), Broken> {
        let mut state = self.link.state();
        match trailers {
            Some(list) => state.engine.end_with(self.key, |block| head::trailers_out(list, block))?,
            None => state.engine.send(self.key, &mut Bytes::new(), true, std::task::Waker::noop())?,
        }
        Ok(())
    }

    /// Hands what is queued to the connection as far as windows allow.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.link.state();
        let mut sent = Ok(());
        if !self.queued.is_empty() {
            sent = state.engine.send(self.key, &mut self.queued, self.queued_last, cx.waker());
        }
        state.flush();
        match sent {
            Ok(()) if !self.queued.is_empty() => Poll::Pending,
            result => Poll::Ready(result.map_err(Broken::from)),
        }
    }

    /// Ready when the peer reset the stream or the connection is gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.link.state().engine.gone(self.key, cx.waker()) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }

    /// Whether the peer reset the stream.
    pub fn was_reset(&self) -> bool {
        matches!(self.link.state().engine.cut(self.key), Some(Gone::Reset(_)))
    }

    /// Ends the stream with an error.
    pub fn reset(&mut self, reason: Reason) {
        let mut state = self.link.state();
        state.engine.reset(self.key, reason);
        state.ask();
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        let mut state = self.link.state();
        state.engine.release(self.key);
        state.ask();
    }
}

impl From<Gone> for Broken {
    fn from(gone: Gone) -> Broken {
        match gone {
            Gone::Closed => Broken::Closed,
            Gone::Reset(reason) => Broken::Reset(reason),
            Gone::Malformed(Malformed::TooLarge) => Broken::Refused(Refused::LargeHead),
            Gone::Malformed(_) => Broken::Refused(Refused::Syntax),
        }
    }
}
