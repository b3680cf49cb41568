//! The request's body on its way to an upstream, kept for another attempt while a retry is possible.

use std::task::{Context, Poll, ready};

use tulle_http::throttle::Throttle;
use tulle_http::{Broken, Piece, PumpError, Side};

use super::mirror::{self, Mirrored};

/// Whether the body is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    No,
    /// Up to this many bytes; a larger body is sent once and cannot be retried.
    UpTo(usize),
}

/// A request body that can be sent more than once.
pub struct Upload {
    kept: Vec<Piece>,
    kept_bytes: usize,
    keep: Keep,
    /// Next of the kept pieces to send.
    next: usize,
    /// The whole body has been read from the client.
    read_all: bool,
    sent_all: bool,
    done: bool,
    begun: bool,
    /// There is no body at all.
    empty: bool,
    /// Copies that wait for the body.
    mirrored: Option<Box<Mirrored>>,
    /// Holds what is read of it to a rate.
    throttle: Option<Box<Throttle>>,
    /// Body bytes read from the client.
    pub bytes: u64,
}

impl Upload {
    pub fn new(keep: Keep) -> Upload {
        Upload {
            kept: Vec::new(),
            kept_bytes: 0,
            keep,
            next: 0,
            read_all: false,
            sent_all: false,
            done: false,
            begun: false,
            empty: false,
            mirrored: None,
            throttle: None,
            bytes: 0,
        }
    }

    /// A request without a body.
    pub fn none() -> Upload {
        Upload { read_all: true, sent_all: true, empty: true, ..Upload::new(Keep::No) }
    }

    pub fn read_all(&self) -> bool {
        self.read_all
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether everything sent so far can be sent again.
    pub fn can_repeat(&self) -> bool {
        self.empty || matches!(self.keep, Keep::UpTo(limit) if self.kept_bytes <= limit)
    }

    /// Begins again, for another upstream.
    pub fn rewind(&mut self) {
        self.next = 0;
        self.sent_all = self.empty;
        self.done = false;
        self.begun = false;
    }

    /// What is left when the body is not to be sent any more; what was read of it still counts.
    pub fn emptied(self) -> Upload {
        Upload { bytes: self.bytes, ..Upload::none() }
    }

    /// Nothing is kept from here on: a response has begun.
    pub fn commit(&mut self) {
        self.keep = Keep::No;
        if self.next >= self.kept.len() {
            self.kept = Vec::new();
            self.next = 0;
        }
    }

    /// Looks at what the client has sent already, so that a malformed beginning is refused before anything is sent on.
    pub fn look_ahead(&mut self, cx: &mut Context<'_>, from: &mut Side) -> Result<(), Broken> {
        if !self.read_all
            && self.kept.is_empty()
            && let Poll::Ready(piece) = self.read(cx, from)
        {
            self.take(piece?);
        }
        Ok(())
    }

    /// Reads no faster than `throttle` lets it.
    pub fn throttled(mut self, throttle: Option<Box<Throttle>>) -> Upload {
        self.throttle = throttle;
        self
    }

    fn read(&mut self, cx: &mut Context<'_>, from: &mut Side) -> Poll<Result<Piece, Broken>> {
        let Some(throttle) = &mut self.throttle else { return from.poll_body(cx) };
        let piece = match throttle.take_held() {
            Some(piece) => piece,
            None => ready!(from.poll_body(cx))?,
        };
        throttle.poll(cx, piece).map(Ok)
    }

    /// Reads until there is all of the body, or more of it than `limit`.
    pub fn poll_collect(&mut self, cx: &mut Context<'_>, from: &mut Side, limit: usize) -> Poll<Result<(), Broken>> {
        while !self.read_all && self.bytes as usize <= limit {
            let piece = ready!(self.read(cx, from))?;
            self.take(piece);
        }
        Poll::Ready(Ok(()))
    }

    /// How long the body is, once all of it has been read and it has no trailers.
    pub fn whole_length(&self) -> Option<u64> {
        let trailers = self.kept.iter().any(|piece| matches!(piece, Piece::Trailers(_)));
        (self.read_all && !trailers).then_some(self.kept_bytes as u64)
    }

    /// The beginning of what was read, at most `limit` bytes.
    pub fn collected(&self, limit: usize) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.kept_bytes.min(limit));
        for piece in &self.kept {
            if let Piece::Data { data, .. } = piece {
                all.extend_from_slice(&data[..data.len().min(limit - all.len())]);
            }
        }
        all
    }

    /// What was read ahead goes on as configured for the upstream.
    pub fn keeping(mut self, keep: Keep) -> Upload {
        self.keep = keep;
        self
    }

    /// Shows the body, from its beginning, to copies of the request.
    pub fn mirror(&mut self, mirrored: Box<Mirrored>) {
        if self.empty {
            mirror::send(*mirrored);
            return;
        }
        self.mirrored = Some(mirrored);
        for piece in &self.kept {
            self.mirrored = self.mirrored.take().and_then(|mirrored| mirror::take(mirrored, piece));
        }
    }

    fn take(&mut self, piece: Piece) {
        if let Some(mirrored) = self.mirrored.take() {
            self.mirrored = mirror::take(mirrored, &piece);
        }
        if let Piece::Data { data, .. } = &piece {
            self.bytes += data.len() as u64;
            self.kept_bytes += data.len();
        }
        self.read_all = !matches!(piece, Piece::Data { last: false, .. });
        self.kept.push(piece);
    }

    /// Moves the body on; ready when all of it has been sent.
    pub fn poll(&mut self, cx: &mut Context<'_>, from: &mut Side, to: &mut Side) -> Poll<Result<(), PumpError>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        loop {
            // The first piece is queued behind the head before anything is flushed, so that both leave together.
            if self.begun {
                ready!(to.poll_flush(cx)).map_err(PumpError::Write)?;
            }
            if self.sent_all {
                if !std::mem::replace(&mut self.begun, true) {
                    continue;
                }
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if self.next == self.kept.len() && !self.read_all {
                match self.read(cx, from) {
                    Poll::Ready(piece) => self.take(piece.map_err(PumpError::Read)?),
                    Poll::Pending if !self.begun => {
                        self.begun = true;
                        continue;
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.begun = true;
            self.send_next(to).map_err(PumpError::Write)?;
        }
    }

    fn send_next(&mut self, to: &mut Side) -> Result<(), Broken> {
        let piece = match self.keep {
            Keep::UpTo(limit) if self.kept_bytes <= limit => self.kept[self.next].clone(),
            // Beyond the limit nothing is repeated, so nothing needs to be kept.
            _ => std::mem::replace(&mut self.kept[self.next], Piece::End),
        };
        self.next += 1;
        self.sent_all = self.read_all && self.next == self.kept.len();
        if !self.can_repeat() || self.keep == Keep::No {
            self.kept.drain(..self.next);
            self.next = 0;
        }
        match piece {
            Piece::Data { data, last } => to.write(data, last),
            Piece::Trailers(list) => to.end(Some(&list)),
            Piece::End => to.end(None),
        }
    }
}
