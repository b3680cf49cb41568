//! The serving loop of an HTTP/2 connection: streams are accepted here, each is an exchange in a task of its own.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tulle_config::Hcm;
use tulle_http::h2::{H2Stream, Windows, head as h2_head};
use tulle_http::{Side, Stream};

use super::Client;
use crate::exchange::record::Record;
use crate::exchange::reply::Reply;
use crate::exchange::{self, Exchange, Heads, LastOnConnection};
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, earlier};

type Server = h2::server::Connection<Replayed, Bytes>;

pub async fn serve(worker: &Rc<Worker>, client: Rc<Client>, hcm: Arc<Hcm>, io: Replayed) {
    let windows = windows(&hcm);
    let handshake = Box::pin(windows.server().handshake::<_, Bytes>(io));
    let Ok(Ok(mut server)) = tokio::time::timeout(Duration::from_secs(10), handshake).await else { return };
    let mut life = Life::new(&hcm);
    loop {
        let next = std::future::poll_fn(|cx| life.poll(cx, &client, &mut server)).await;
        let Some(Ok((request, respond))) = next else { return };
        life.served += 1;
        if hcm.max_requests_per_connection.is_some_and(|max| life.served >= max) || client.outdated(worker) {
            server.graceful_shutdown();
        }
        let (worker, client, hcm) = (worker.clone(), client.clone(), hcm.clone());
        tokio::task::spawn_local(stream(worker, client, hcm, request, respond));
    }
}

/// When an HTTP/2 connection is asked to end.
struct Life {
    served: u32,
    alarm: Alarm,
    idle: Option<Duration>,
    quiet_since: Instant,
    oldest: Option<Instant>,
    leaving: bool,
}

type Incoming = Option<Result<(http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>), h2::Error>>;

impl Life {
    fn new(hcm: &Hcm) -> Life {
        let now = Instant::now();
        Life {
            served: 0,
            alarm: Alarm::default(),
            idle: hcm.timeouts.idle,
            quiet_since: now,
            oldest: hcm.timeouts.max_connection_duration.map(|limit| now + limit),
            leaving: false,
        }
    }

    /// The next stream; in between, GOAWAY when the worker drains or the connection has been idle for too long.
    fn poll(&mut self, cx: &mut Context<'_>, client: &Client, server: &mut Server) -> Poll<Incoming> {
        loop {
            if let Poll::Ready(next) = server.poll_accept(cx) {
                self.quiet_since = Instant::now();
                return Poll::Ready(next);
            }
            if self.leaving {
                return Poll::Pending;
            }
            let due = earlier(self.idle.map(|limit| self.quiet_since + limit), self.oldest);
            let drained = client.present.poll_draining(cx).is_ready();
            if !drained && self.alarm.poll(cx, due).is_pending() {
                return Poll::Pending;
            }
            let old = self.oldest.is_some_and(|at| at <= Instant::now());
            if !drained && !old && server.has_streams() {
                self.quiet_since = Instant::now();
                continue;
            }
            self.leaving = true;
            // Two GOAWAYs with a round trip between them: streams already on their way are still served.
            server.graceful_shutdown();
        }
    }
}

async fn stream(
    worker: Rc<Worker>,
    client: Rc<Client>,
    hcm: Arc<Hcm>,
    request: http::Request<h2::RecvStream>,
    respond: h2::server::SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let ended = body.is_end_stream();
    let mut down = Side::H2(Box::new(H2Stream::accepted(body, respond)));
    let (mut heads, mut alarm) = (Heads::default(), Alarm::default());
    let read = h2_head::request_in(&parts, ended, &mut heads.request);
    drop(parts);
    let too_many = heads.request.headers.len() > hcm.max_headers;
    let x = Exchange {
        record: Record::new(worker.now(), worker.clock.wall()),
        worker: &worker,
        hcm: &hcm,
        client: &client,
        heads: &mut heads,
        alarm: &mut alarm,
        last: LastOnConnection::No,
    };
    match read {
        Ok(()) if too_many => {
            let refused = tulle_http::h1::Refused::LargeHead;
            exchange::refuse(x, &mut down, Reply::malformed(refused)).await;
        }
        Ok(()) => {
            exchange::serve(x, &mut down).await;
        }
        Err(_) => {
            // RFC 9113 §8.1.1: a malformed request is a stream error; the connection lives.
            exchange::log_malformed(x);
            if let Side::H2(stream) = &mut down {
                stream.reset(h2::Reason::PROTOCOL_ERROR);
            }
        }
    }
}

/// Windows bound memory: what configuration asks for is cut to 1 MiB a stream and 4 MiB a connection.
fn windows(hcm: &Hcm) -> Windows {
    Windows {
        stream: hcm.http2.initial_stream_window.clamp(65_535, 1 << 20),
        connection: hcm.http2.initial_connection_window.clamp(65_535, 4 << 20),
        max_streams: hcm.http2.max_concurrent_streams,
        header_list: u32::try_from(hcm.max_request_headers_bytes).unwrap_or(u32::MAX),
    }
}

/// A stream whose first bytes were read while the protocol was being told.
pub struct Replayed {
    seen: BytesMut,
    stream: Stream,
}

impl Replayed {
    pub fn new(seen: BytesMut, stream: Stream) -> Replayed {
        Replayed { seen, stream }
    }
}

impl AsyncRead for Replayed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.seen.len().min(buf.remaining());
        buf.put_slice(&self.seen[..n]);
        self.seen.advance(n);
        if self.seen.is_empty() {
            self.seen = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
