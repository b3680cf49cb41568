//! The serving loop of an HTTP/2 connection: streams are accepted here, each is an exchange in a task of its own.

use std::cell::{Cell, RefCell};
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
use tulle_policy::overload::ShedPoint;

use super::{Client, Manager};
use crate::exchange::record::Record;
use crate::exchange::reply::Reply;
use crate::exchange::{self, Exchange, Heads, LastOnConnection};
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, earlier};

/// How long the peer may take to read our last words and close.
const LINGER: Duration = Duration::from_secs(1);
/// How long a peer may take to acknowledge that we want to leave, as Envoy's drain timeout.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long a task waits for another stream before its memory is given back.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serves a connection on which `seen` has already been read.
pub async fn serve(worker: &Rc<Worker>, client: Rc<Client>, hcm: Arc<Hcm>, stream: Stream, seen: BytesMut) {
    let link = Link::server(stream, seen, config(&hcm));
    let seed = worker.rng.borrow_mut().next_u64();
    let mut life = Life::new(&hcm, seed);
    let hall = Rc::new(Hall {
        worker: worker.clone(),
        client,
        hcm,
        idle: RefCell::default(),
        closed: Cell::new(false),
        asked: Cell::new(Instant::now()),
    });
    let _host = Host { hall: hall.clone(), link: link.clone() };
    while let Some(stream) = std::future::poll_fn(|cx| life.poll(cx, &hall, &link)).await {
        life.served += 1;
        let outdated = hall.client.outdated(worker);
        let overloaded = worker.overload.as_ref().is_some_and(|overload| {
            overload.ends_connection(|| worker.random()) || overload.sheds(ShedPoint::Http2, || worker.random())
        });
        if hall.hcm.max_requests_per_connection.is_some_and(|max| life.served >= max) || outdated || overloaded {
            link.shutdown();
        }
        match if outdated { hall.client.manager(worker) } else { Manager::Same } {
            Manager::Same => hall.give(stream, hall.hcm.clone()),
            Manager::Now(manager) => hall.give(stream, manager),
            Manager::Nobody => {}
        }
    }
    hall.close();
    let _limit = tokio::time::timeout(LINGER, std::future::poll_fn(|cx| link.poll_goodbye(cx))).await;
}

/// What the streams of a connection share. A task serves one stream after another, as an HTTP/1 connection does, so
/// that its memory and its timer are used again.
struct Hall {
    worker: Rc<Worker>,
    client: Rc<Client>,
    hcm: Arc<Hcm>,
    /// Tasks without a stream, the one that had one last at the end.
    idle: RefCell<Vec<Rc<Seat>>>,
    closed: Cell<bool>,
    /// When streams last came in.
    asked: Cell<Instant>,
}

/// Whoever serves the connection. Ended from outside, as when the peer is revoked, it takes the streams' tasks along.
struct Host {
    hall: Rc<Hall>,
    link: Rc<Link>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.hall.close();
        self.link.sever();
    }
}

/// A stream, and who decides about it.
type Given = (H2Stream, Arc<Hcm>);

/// Where a task waits for its next stream.
#[derive(Default)]
struct Seat {
    given: RefCell<Option<Given>>,
    waker: RefCell<Option<Waker>>,
}

impl Hall {
    fn give(self: &Rc<Self>, stream: H2Stream, hcm: Arc<Hcm>) {
        let Some(seat) = self.idle.borrow_mut().pop() else {
            tokio::task::spawn_local(sit(self.clone(), (stream, hcm)));
            return;
        };
        *seat.given.borrow_mut() = Some((stream, hcm));
        seat.wake();
    }

    /// The next stream for this task; `None` when it has waited for too long or the connection has ended.
    async fn next(&self, seat: &Rc<Seat>, alarm: &mut Alarm) -> Option<Given> {
        if self.closed.get() {
            return None;
        }
        self.idle.borrow_mut().push(seat.clone());
        let due = Some(self.asked.get() + PATIENCE);
        std::future::poll_fn(|cx| {
            let given = seat.given.borrow_mut().take();
            if given.is_some() || self.closed.get() {
                return Poll::Ready(given);
            }
            if alarm.poll(cx, due).is_ready() {
                self.idle.borrow_mut().retain(|other| !Rc::ptr_eq(other, seat));
                return Poll::Ready(None);
            }
            *seat.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn close(&self) {
        self.closed.set(true);
        self.idle.borrow_mut().drain(..).for_each(|seat| seat.wake());
    }
}

impl Seat {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

async fn sit(hall: Rc<Hall>, first: Given) {
    let (mut heads, mut alarm) = (Heads::default(), Alarm::default());
    let seat = Rc::default();
    let mut next = Some(first);
    while let Some(given) = next {
        serve_stream(&hall, given, &mut heads, &mut alarm).await;
        next = hall.next(&seat, &mut alarm).await;
    }
}

/// When an HTTP/2 connection is asked to end.
struct Life {
    served: u32,
    alarm: Alarm,
    idle: Option<Duration>,
    quiet_since: Instant,
    /// Streams are coming in: the clock has been read for them.
    dated: bool,
    oldest: Option<Instant>,
    /// Set when the goodbye has been said: when to look whether it was taken.
    leaving: Option<Instant>,
    pulse: Option<Pulse>,
    /// How long a head may take; the stream of the one that is on its way, and when it must have come whole.
    head_limit: Option<Duration>,
    head: Option<(u32, Instant)>,
}

impl Life {
    fn new(hcm: &Hcm, seed: u64) -> Life {
        let now = Instant::now();
        Life {
            served: 0,
            alarm: Alarm::default(),
            idle: hcm.timeouts.idle,
            quiet_since: now,
            dated: false,
            oldest: hcm.timeouts.max_connection_duration.map(|limit| now + limit),
            leaving: None,
            pulse: hcm.http2.keepalive.map(|k| Pulse::new(Rhythm { interval: k.interval, timeout: k.timeout }, seed)),
            head_limit: hcm.timeouts.request_headers,
            head: None,
        }
    }

    /// The next stream; in between, GOAWAY when the worker drains or the connection has been idle for too long.
    fn poll(&mut self, cx: &mut Context<'_>, hall: &Hall, link: &Rc<Link>) -> Poll<Option<H2Stream>> {
        loop {
            if let Poll::Ready(next) = link.poll_accept(cx) {
                if !std::mem::replace(&mut self.dated, true) {
                    self.quiet_since = Instant::now();
                    hall.asked.set(self.quiet_since);
                }
                return Poll::Ready(next);
            }
            self.dated = false;
            if let Some(pulse) = &mut self.pulse {
                pulse.poll(cx, link);
            }
            if self.leaving.is_none() && link.is_done() {
                self.leaving = Some(Instant::now() + LINGER);
            }
            if self.leaving.is_some() {
                return self.poll_left(cx, link);
            }
            let head = self.head_due(link);
            let due = earlier(earlier(self.idle.map(|limit| self.quiet_since + limit), self.oldest), head);
            let drained = hall.client.present.poll_draining(cx).is_ready();
            if !drained && self.alarm.poll(cx, due).is_pending() {
                return Poll::Pending;
            }
            if head.is_some_and(|at| at <= Instant::now()) {
                // Nothing can be read behind a head that does not end.
                link.abandon(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            let old = self.oldest.is_some_and(|at| at <= Instant::now());
            if !drained && !old && link.has_streams() {
                self.quiet_since = Instant::now();
                continue;
            }
            self.leaving = Some(Instant::now() + GOODBYE);
            // Two GOAWAYs with a round trip between them: streams already on their way are still served.
            link.shutdown();
        }
    }

    /// When the head whose beginning has come must have come whole.
    fn head_due(&mut self, link: &Link) -> Option<Instant> {
        let limit = self.head_limit?;
        self.head = link.head_begun().map(|id| match self.head {
            Some((begun, due)) if begun == id => (id, due),
            _ => (id, Instant::now() + limit),
        });
        self.head.map(|(_, due)| due)
    }

    /// A peer that does not answer the goodbye, or does not even read it, is left alone when its streams have ended.
    fn poll_left(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<Option<H2Stream>> {
        while self.alarm.poll(cx, self.leaving).is_ready() {
            if !link.has_streams() {
                return Poll::Ready(None);
            }
            self.leaving = Some(Instant::now() + GOODBYE);
        }
        Poll::Pending
    }
}

async fn serve_stream(hall: &Hall, (mut stream, hcm): Given, heads: &mut Heads, alarm: &mut Alarm) {
    let Some(request) = stream.request(&mut Context::from_waker(Waker::noop())) else { return };
    let Request { mut head, fault, gone } = request;
    let read = h2_head::request_in(&mut head, stream.read_ended(), &mut heads.request);
    stream.recycle(head);
    let mut down = Side::H2(Box::new(stream));
    let too_many = heads.request.headers.len() > hcm.max_headers;
    let underscore = has_underscores(&hcm, &mut heads.request.headers);
    let mut x = Exchange {
        record: Record::new(hall.worker.now(), hall.worker.clock.wall()),
        worker: &hall.worker,
        hcm: &hcm,
        client: &hall.client,
        heads,
        alarm,
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
        (fault, _) => {
            // RFC 9113 §8.1.1: a malformed request is a stream error; the connection lives. The words are Envoy's.
            let framing = matches!(fault, Some(Malformed::Pseudo | Malformed::Length | Malformed::Sequence));
            let details = if framing { "http2.violation.of.messaging.rule" } else { "http2.invalid.header.field" };
            exchange::log_malformed(x, details);
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
        extended_connect: hcm.http2.allow_connect,
    }
}
