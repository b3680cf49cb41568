//! One HTTP/2 stream, either end; flow control carries back-pressure both ways.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::body::{Broken, Piece};
use crate::headers::Headers;

use super::head;

/// A stream's two directions. On the serving side the sending half appears with the response's head.
pub struct H2Stream {
    recv: Option<RecvStream>,
    send: Option<SendStream<Bytes>>,
    respond: Option<h2::server::SendResponse<Bytes>>,
    response: Option<h2::client::ResponseFuture>,
    /// Handed out, and to be given back to the peer's window when the next piece is asked for.
    unreleased: usize,
    read_ended: bool,
    queued: Bytes,
    queued_last: bool,
}

impl H2Stream {
    /// The serving side.
    pub fn accepted(recv: RecvStream, respond: h2::server::SendResponse<Bytes>) -> H2Stream {
        let read_ended = recv.is_end_stream();
        H2Stream { recv: Some(recv), respond: Some(respond), read_ended, ..H2Stream::empty() }
    }

    /// The asking side.
    pub fn opened(response: h2::client::ResponseFuture, send: SendStream<Bytes>) -> H2Stream {
        H2Stream { response: Some(response), send: Some(send), ..H2Stream::empty() }
    }

    fn empty() -> H2Stream {
        H2Stream {
            recv: None,
            send: None,
            respond: None,
            response: None,
            unreleased: 0,
            read_ended: false,
            queued: Bytes::new(),
            queued_last: false,
        }
    }

    /// Sends the response's head; `end` when there is no body.
    pub fn respond(&mut self, response: http::Response<()>, end: bool) -> Result<(), Broken> {
        let respond = self.respond.as_mut().ok_or(Broken::Closed)?;
        self.send = Some(respond.send_response(response, end)?);
        Ok(())
    }

    /// Waits for the final response's head; its body is read from this stream afterwards.
    pub fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<http::response::Parts, Broken>> {
        let Some(future) = self.response.as_mut() else { return Poll::Ready(Err(Broken::Closed)) };
        let response = ready!(std::pin::Pin::new(future).poll(cx))?;
        self.response = None;
        let (parts, recv) = response.into_parts();
        self.read_ended = recv.is_end_stream();
        self.recv = Some(recv);
        Poll::Ready(Ok(parts))
    }

    pub fn read_ended(&self) -> bool {
        self.read_ended
    }

    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let Some(recv) = self.recv.as_mut() else { return Poll::Pending };
        if self.unreleased > 0 {
            // Fails only when the stream is gone, which the read below reports.
            let _ = recv.flow_control().release_capacity(self.unreleased);
            self.unreleased = 0;
        }
        if self.read_ended {
            return Poll::Ready(Ok(Piece::End));
        }
        match ready!(recv.poll_data(cx)) {
            Some(data) => {
                let data = data?;
                self.unreleased = data.len();
                self.read_ended = recv.is_end_stream();
                Poll::Ready(Ok(Piece::Data { data, last: self.read_ended }))
            }
            None => {
                let trailers = ready!(recv.poll_trailers(cx))?;
                self.read_ended = true;
                Poll::Ready(Ok(match trailers {
                    Some(map) => Piece::Trailers(Box::new(head::trailers_in(&map))),
                    None => Piece::End,
                }))
            }
        }
    }

    pub fn write(&mut self, data: Bytes, last: bool) -> Result<(), Broken> {
        let send = self.send.as_mut().ok_or(Broken::Closed)?;
        if data.is_empty() {
            return if last { Ok(send.send_data(data, true)?) } else { Ok(()) };
        }
        send.reserve_capacity(data.len());
        self.queued = data;
        self.queued_last = last;
        Ok(())
    }

    pub fn end(&mut self, trailers: Option<&Headers>) -> Result<(), Broken> {
        let send = self.send.as_mut().ok_or(Broken::Closed)?;
        match trailers {
            Some(list) => send.send_trailers(head::trailers_out(list))?,
            None => send.send_data(Bytes::new(), true)?,
        }
        Ok(())
    }

    /// Hands what is queued to the connection as far as windows allow.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.queued.is_empty() {
            let send = self.send.as_mut().ok_or(Broken::Closed)?;
            let room = match send.capacity() {
                0 => ready!(send.poll_capacity(cx)).ok_or(Broken::Closed)??,
                n => n,
            };
            let part = self.queued.split_to(room.min(self.queued.len()));
            let last = self.queued_last && self.queued.is_empty();
            send.send_data(part, last)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer reset the stream or the connection is gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match (self.send.as_mut(), self.respond.as_mut()) {
            (Some(send), _) => ready!(send.poll_reset(cx)),
            (None, Some(respond)) => ready!(respond.poll_reset(cx)),
            (None, None) => return Poll::Pending,
        };
        drop(reset);
        Poll::Ready(())
    }

    /// Ends the stream with an error.
    pub fn reset(&mut self, reason: h2::Reason) {
        match (self.send.as_mut(), self.respond.as_mut()) {
            (Some(send), _) => send.send_reset(reason),
            (None, Some(respond)) => respond.send_reset(reason),
            (None, None) => {}
        }
    }
}
