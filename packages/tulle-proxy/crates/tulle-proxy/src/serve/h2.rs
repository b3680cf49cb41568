//! The serving loop of an HTTP/2 connection: streams are accepted here, each is an exchange in a task of its own.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;
use tulle_config::Hcm;
use tulle_config::hcm::Underscores;
use tulle_core::ResponseFlags;
use tulle_http::h1::Refused;
use tulle_http::h2::stream::Request;
use tulle_http::h2::{Config, H2Stream, Link, Malformed, Pulse, Reason, Rhythm, head as h2_head};
use tulle_http::{Headers, Side, Stream};

use super::{Client, Manager};
use crate::exchange::record::Record;
use crate::exchange::reply::Reply;
use crate::exchange::{self, Exchange, Heads, LastOnConnection};
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, earlier};

/// How long the peer may take to read our last words and close.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a connection on which `seen` has already been read.
pub async fn serve(worker: &Rc<Worker>, client: Rc<Client>, hcm: Arc<Hcm>, stream: Stream, seen: BytesMut) {
    let link = Link::server(stream, seen, config(&hcm));
    let seed = worker.rng.borrow_mut().next_u64();
    let mut life = Life::new(&hcm, seed);
    while let Some(stream) = std::future::poll_fn(|cx| life.poll(cx, &client, &link)).await {
        life.served += 1;
        let outdated = client.outdated(worker);
        if hcm.max_requests_per_connection.is_some_and(|max| life.served >= max) || outdated {
            link.shutdown();
        }
        let hcm = match if outdated { client.manager(worker) } else { Manager::Same } {
            Manager::Same => hcm.clone(),
            Manager::Now(manager) => manager,
            Manager::Nobody => continue,
        };
        let (worker, client) = (worker.clone(), client.clone());
        // Boxed: a task is moved several times before it first runs, and this one is large.
        tokio::task::spawn_local(Box::pin(serve_stream(worker, client, hcm, stream)));
    }
    let _limit = tokio::time::timeout(LINGER, std::future::poll_fn(|cx| link.poll_goodbye(cx))).await;
}

/// When an HTTP/2 connection is asked to end.
struct Life {
    served: u32,
    alarm: Alarm,
    idle: Option<Duration>,
    quiet_since: Instant,
    oldest: Option<Instant>,
    leaving: bool,
    pulse: Option<Pulse>,
}

impl Life {
    fn new(hcm: &Hcm, seed: u64) -> Life {
        let now = Instant::now();
        Life {
            served: 0,
            alarm: Alarm::default(),
            idle: hcm.timeouts.idle,
            quiet_since: now,
            oldest: hcm.timeouts.max_connection_duration.map(|limit| now + limit),
            leaving: false,
            pulse: hcm.http2.keepalive.map(|k| Pulse::new(Rhythm { interval: k.interval, timeout: k.timeout }, seed)),
        }
    }

    /// The next stream; in between, GOAWAY when the worker drains or the connection has been idle for too long.
    fn poll(&mut self, cx: &mut Context<'_>, client: &Client, link: &Rc<Link>) -> Poll<Option<H2Stream>> {
        loop {
            if let Poll::Ready(next) = link.poll_accept(cx) {
                self.quiet_since = Instant::now();
                return Poll::Ready(next);
            }
            if let Some(pulse) = &mut self.pulse {
                pulse.poll(cx, link);
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
            if !drained && !old && link.has_streams() {
                self.quiet_since = Instant::now();
                continue;
            }
            self.leaving = true;
            // Two GOAWAYs with a round trip between them: streams already on their way are still served.
            link.shutdown();
        }
    }
}

async fn serve_stream(worker: Rc<Worker>, client: Rc<Client>, hcm: Arc<Hcm>, mut stream: H2Stream) {
    let Some(request) = stream.request(&mut Context::from_waker(Waker::noop())) else { return };
    let ended = stream.read_ended();
    let mut down = Side::H2(Box::new(stream));
    let (mut heads, mut alarm) = (Heads::default(), Alarm::default());
    let Request { head, fault, gone } = request;
    let read = h2_head::request_in(head, ended, &mut heads.request);
    let too_many = heads.request.headers.len() > hcm.max_headers;
    let underscore = has_underscores(&hcm, &mut heads.request.headers);
    let mut x = Exchange {
        record: Record::new(worker.now(), worker.clock.wall()),
        worker: &worker,
        hcm: &hcm,
        client: &client,
        heads: &mut heads,
        alarm: &mut alarm,
        upload: None,
        last: LastOnConnection::No,
    };
    match (fault, read) {
        _ if gone => {
            x.record.flags.insert(ResponseFlags::DOWNSTREAM_REMOTE_RESET);
            x.record.details = "http2.remote_reset".into();
            exchange::finish::finish(&mut x);
        }
        (Some(Malformed::TooLarge), _) => exchange::refuse(x, &mut down, Reply::malformed(Refused::LargeHead)).await,
        (None, Ok(())) if too_many => exchange::refuse(x, &mut down, Reply::malformed(Refused::LargeHead)).await,
        (None, Ok(())) if underscore => exchange::refuse(x, &mut down, Reply::malformed(Refused::Underscore)).await,
        (None, Ok(())) => {
            exchange::serve(x, &mut down).await;
        }
        _ => {
            // RFC 9113 §8.1.1: a malformed request is a stream error; the connection lives.
            exchange::log_malformed(x);
            if let Side::H2(stream) = &mut down {
                stream.reset(Reason::PROTOCOL_ERROR);
            }
        }
    }
}

/// Whether a name has an underscore where those are refused; where they are to be dropped, they are.
fn has_underscores(hcm: &Hcm, headers: &mut Headers) -> bool {
    let named = |name: &[u8]| name.contains(&b'_');
    match hcm.underscores {
        Underscores::Allow => false,
        Underscores::Reject => headers.iter().any(|(_, name, _)| named(name)),
        Underscores::Drop => {
            headers.remove_where(|_, name, _| named(name));
            false
        }
    }
}

/// Windows bound memory: what configuration asks for is cut to 1 MiB a stream and 4 MiB a connection.
fn config(hcm: &Hcm) -> Config {
    Config {
        stream_window: hcm.http2.initial_stream_window.clamp(65_535, 1 << 20),
        connection_window: hcm.http2.initial_connection_window.clamp(65_535, 4 << 20),
        max_streams: hcm.http2.max_concurrent_streams,
        header_list: u32::try_from(hcm.max_request_headers_bytes).unwrap_or(u32::MAX),
    }
}
