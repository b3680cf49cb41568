//! One attempt: a connection to one host, the request on it, and the wait for a response's head.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;
use tulle_balance::{ActiveRequest, Host};
use tulle_config::{Cluster, HttpProtocol};
use tulle_connect::{Admission, DialError, H1Lease, H2Lease, Lease, ServerIs, Terms, Wanted, Way, Whose};
use tulle_core::ResponseFlags;
use tulle_http::h1::conn::NoHead;
use tulle_http::h1::encode::Fate;
use tulle_http::h1::{Http10, Limits, Reading};
use tulle_http::h2::{Link, Reason};
use tulle_http::side::open_h2;
use tulle_http::{Broken, Expect, Interim, Known, PumpError, Side, To, Tunnel, Version};
use tulle_policy::ResetReason;
use tulle_policy::overload::ShedPoint;
use tulle_telemetry::TimePoint;

use super::deliver::strip_hop_by_hop;
use super::forward::{Call, Plan};
use super::reply::Reply;
use super::upload::Upload;
use super::{Exchange, Failed, hedge, tries};
use crate::serve::h1::reading;
use crate::serve::sheds;
use crate::worker::alarm::earlier;

/// An upstream that has answered with a head; its body is still to be read.
pub struct Answered {
    pub up: Side,
    pub hold: Hold,
    pub counted: (ActiveRequest, Admission),
}

/// Where the connection goes afterwards.
pub enum Hold {
    H1(H1Lease),
    H2(H2Lease),
}

impl Hold {
    pub fn way(&self) -> &Rc<Way> {
        match self {
            Hold::H1(lease) => lease.way(),
            Hold::H2(lease) => lease.way(),
        }
    }

    /// Whether the peer may have been closing the connection, as idle, while the request was on its way.
    fn was_idle(&self) -> bool {
        const LONG: Duration = Duration::from_millis(500);
        let idle_for = match self {
            Hold::H1(lease) => lease.idle_for(),
            Hold::H2(lease) => lease.idle_for(),
        };
        idle_for >= LONG
    }
}

/// An attempt without an answer.
#[derive(Debug)]
pub struct Reset {
    pub reason: ResetReason,
    /// At least a byte of the request left.
    pub sent: bool,
    /// The connection had been idle in the pool and ended at once.
    pub stale: bool,
    pub transport_failure: String,
    /// More exact words for the cause than the reason's own.
    pub words: Option<&'static str>,
}

impl Reset {
    /// At least a byte of the request had left.
    pub fn after_sending(reason: ResetReason) -> Reset {
        Reset { sent: true, ..Reset::unsent(reason) }
    }

    fn unsent(reason: ResetReason) -> Reset {
        Reset { reason, sent: false, stale: false, transport_failure: String::new(), words: None }
    }
}

pub enum Tried {
    Answered(Answered),
    Reset(Reset),
    /// Its time is up, but another may be tried beside it.
    Late(Answered),
    /// An earlier try that had been left running is answered: that one of `Plan::waiting`.
    Overtaken(usize),
}

/// What came instead of a response's head.
enum NoAnswer {
    Reset(Reset),
    Late,
    Overtaken(usize),
}

/// Tries one host. `Err` when there is nothing to retry: the client left, or its own message is at fault.
pub async fn attempt(
    x: &mut Exchange<'_>,
    down: &mut Side,
    plan: &mut Plan<'_>,
    host: &Rc<Host>,
    upload: &mut Upload,
) -> Result<Tried, Failed> {
    x.record.host = Some(host.clone());
    let Ok(admission) = plan.target.upstream.admit_request(plan.action.priority) else {
        return Ok(Tried::Reset(Reset::unsent(ResetReason::Overflow)));
    };
    let active = host.begin();
    let per_try = plan.timeouts.per_try.map(|limit| x.worker.clock.instant() + limit);
    let wanted = match plan.call {
        Call::Whole => wanted(&plan.target.upstream.config_ref(), x.heads.request.version),
        Call::Payload => Wanted::Tcp,
    };
    let whose = whose(x, &plan.target.upstream.config_ref());
    let terms = Terms { wanted, priority: plan.action.priority, client: whose.as_ref() };
    let lease = match plan.target.upstream.try_lease(host, terms) {
        Some(lease) => lease,
        None => match new_connection(x, down, plan, (host, terms, per_try)).await? {
            Ok(lease) => lease,
            Err(NoLease::Overtaken(at)) => return Ok(Tried::Overtaken(at)),
            Err(NoLease::Reset(reset)) => {
                if reset.reason == ResetReason::Overflow {
                    x.record.host = None;
                }
                return Ok(Tried::Reset(reset));
            }
        },
    };
    tries::connected(x, plan, host);
    let (mut up, hold) = match start(x, lease, plan.call).await {
        Ok((up, hold)) if plan.call == Call::Payload => {
            x.record.mark(TimePoint::UpstreamTxStart, x.worker.now());
            x.heads.response.clear();
            return Ok(Tried::Answered(Answered { up, hold, counted: (active, admission) }));
        }
        Ok(started) => started,
        Err(Broken::Refused(refused)) => return Err(Reply::malformed(refused).into()),
        Err(broken) => {
            let reset = Reset { stale: true, ..Reset::unsent(reason(&broken)) };
            return Ok(Tried::Reset(reset));
        }
    };
    x.record.way = Some(hold.way().clone());
    x.record.upstream_version = Some(if matches!(hold, Hold::H2(_)) { Version::Http2 } else { Version::Http11 });
    x.record.mark(TimePoint::UpstreamTxStart, x.worker.now());
    let longest = plan.target.upstream.config_ref().limits.max_stream_duration;
    plan.try_ends = longest.map(|limit| x.worker.clock.instant() + limit);
    Ok(match heads(x, (down, &mut up), plan, upload, per_try).await? {
        None => Tried::Answered(Answered { up, hold, counted: (active, admission) }),
        Some(NoAnswer::Late) => Tried::Late(Answered { up, hold, counted: (active, admission) }),
        Some(NoAnswer::Overtaken(at)) => Tried::Overtaken(at),
        Some(NoAnswer::Reset(mut reset)) => {
            let ended = matches!(reset.reason, ResetReason::ConnectionTermination);
            reset.stale = ended && hold.was_idle();
            if let (Hold::H2(lease), true) = (&hold, ended) {
                lease.condemn();
            }
            Tried::Reset(reset)
        }
    })
}

/// Whose requests a connection for this one may carry, where not everybody's.
fn whose(x: &Exchange<'_>, cluster: &Cluster) -> Option<Whose> {
    let tells = cluster.tells_client();
    if !tells && cluster.tls_name.is_none() {
        return None;
    }
    let request = &x.heads.request;
    let name = cluster.tls_name.as_ref().and_then(|settings| {
        let named = settings.header.as_ref().and_then(|header| request.headers.get(header.as_bytes()));
        ServerIs::by_request(settings, named.unwrap_or(request.authority()))
    });
    Some(Whose { ends: tells.then(|| x.client.ends()), name })
}

/// Which protocol the cluster speaks for this request.
pub fn wanted(cluster: &Cluster, version: Version) -> Wanted {
    match cluster.protocol {
        HttpProtocol::Http1(_) => Wanted::Http1,
        HttpProtocol::Http2(_) => Wanted::Http2,
        HttpProtocol::UseDownstream { .. } if version == Version::Http2 => Wanted::Http2,
        HttpProtocol::UseDownstream { .. } => Wanted::Http1,
        HttpProtocol::Alpn { .. } => Wanted::Alpn,
    }
}

/// Why there is no connection.
enum NoLease {
    Reset(Reset),
    Overtaken(usize),
}

/// Dials, while watching the time and the client.
async fn new_connection(
    x: &mut Exchange<'_>,
    down: &mut Side,
    plan: &mut Plan<'_>,
    (host, terms, per_try): (&Rc<Host>, Terms<'_>, Option<Instant>),
) -> Result<Result<Lease, NoLease>, Failed> {
    if sheds(x.worker, ShedPoint::Dial) {
        return Ok(Err(NoLease::Reset(Reset::unsent(ResetReason::Overflow))));
    }
    let target = plan.target.clone();
    let stats = &target.metrics.stats;
    x.worker.metrics.sheet.inc(stats.upstream_cx_total);
    // Boxed: dialing is rare and its state large, so it stays out of every exchange's own state.
    let mut dialing = Box::pin(target.upstream.lease(host, terms));
    let overall = plan.deadline.or_else(|| plan.timeouts.request.map(|limit| Instant::now() + limit));
    let due = earlier(earlier(overall, per_try), plan.ends);
    let result = std::future::poll_fn(|cx| {
        if let Poll::Ready(lease) = dialing.as_mut().poll(cx) {
            return Poll::Ready(Ok(lease.map_err(|error| NoLease::Reset(dial_failed(error)))));
        }
        if let Poll::Ready(at) = hedge::poll(cx, x, plan) {
            return Poll::Ready(Ok(Err(NoLease::Overtaken(at))));
        }
        if x.alarm.poll(cx, due).is_ready() {
            return if plan.has_ended() {
                Poll::Ready(Err(Wrong::Ended))
            } else {
                Poll::Ready(Ok(Err(NoLease::Reset(Reset::unsent(timed_out(overall))))))
            };
        }
        if down.read_ended() && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Wrong::ClientLeft));
        }
        Poll::Pending
    })
    .await;
    if matches!(&result, Ok(Err(NoLease::Reset(reset))) if reset.words.is_some()) {
        x.worker.metrics.sheet.inc(stats.upstream_cx_connect_timeout);
    }
    result.map_err(|wrong| match wrong {
        Wrong::Ended => Reply::stream_ended(down.read_ended()).into(),
        _ => client_left(x, down),
    })
}

fn timed_out(overall: Option<Instant>) -> ResetReason {
    if overall.is_some_and(|due| due <= Instant::now()) {
        ResetReason::GlobalTimeout
    } else {
        ResetReason::PerTryTimeout
    }
}

fn dial_failed(error: DialError) -> Reset {
    let reason = match error {
        DialError::Overflow => ResetReason::Overflow,
        _ => ResetReason::ConnectFailure,
    };
    let words = matches!(error, DialError::Timeout).then_some("connection timeout");
    Reset { transport_failure: error.transport_failure(), words, ..Reset::unsent(reason) }
}

/// Details of a try that took longer than any stream to its cluster may.
pub const TRY_ENDED: &str = "upstream_max_stream_duration_reached";

/// Puts the request's head on the connection, where the endpoint is to see it.
async fn start(x: &mut Exchange<'_>, lease: Lease, call: Call) -> Result<(Side, Hold), Broken> {
    let request = &x.heads.request;
    match lease {
        Lease::H1(conn, lease) if call == Call::Payload => Ok((Side::H1(conn), Hold::H1(lease))),
        Lease::H1(mut conn, lease) => {
            let fate = match (request.tunnel, lease.is_last()) {
                (Tunnel::No, false) => Fate::Keep,
                (Tunnel::No, true) => Fate::Close,
                (Tunnel::Connect, _) => Fate::Tunnel,
                (Tunnel::WebSocket | Tunnel::Other, _) => Fate::Upgrade,
            };
            conn.queue_request(request, fate);
            Ok((Side::H1(conn), Hold::H1(lease)))
        }
        Lease::H2(lease) => {
            if request.tunnel.is_upgrade() {
                extended_connect(lease.link()).await?;
            }
            let up = open_h2(lease.link(), request)?;
            Ok((up, Hold::H2(lease)))
        }
    }
}

/// Extended CONNECT may be sent only once the peer's SETTINGS allow it (RFC 8441 §3), which on a new connection takes
/// a moment.
async fn extended_connect(link: &Link) -> Result<(), Broken> {
    const LIMIT: Duration = Duration::from_secs(1);
    let told = tokio::time::timeout(LIMIT, std::future::poll_fn(|cx| link.poll_extended_connect(cx))).await;
    if told == Ok(true) { Ok(()) } else { Err(Broken::Reset(Reason::CONNECT_ERROR)) }
}

/// Limits on a response's head.
pub fn response_limits(cluster: &Cluster) -> Limits {
    Limits {
        head_bytes: cluster.limits.max_response_headers_bytes,
        headers: cluster.limits.max_response_headers,
        http10: Http10::Accept,
        names: cluster.http1().map_or(Reading::Fold, |http1| reading(http1.header_case)),
        ..Limits::default()
    }
}

/// What the response is to.
pub fn to(x: &Exchange<'_>) -> To {
    match (x.heads.request.tunnel, x.heads.request.is_head()) {
        (Tunnel::No, true) => To::Head,
        (Tunnel::No, false) => To::Other,
        (Tunnel::Connect, _) => To::Connect,
        (Tunnel::WebSocket | Tunnel::Other, _) => To::Upgrade,
    }
}

/// Sends the request's body while waiting for the response's head. `Some` when there will be none.
async fn heads(
    x: &mut Exchange<'_>,
    (down, up): (&mut Side, &mut Side),
    plan: &mut Plan<'_>,
    upload: &mut Upload,
    per_try: Option<Instant>,
) -> Result<Option<NoAnswer>, Failed> {
    let limits = response_limits(&plan.target.upstream.config_ref());
    let to = to(x);
    // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
    let passed = x.hcm.proxy_100_continue && x.heads.request.version != Version::Http10;
    let expect = Expect { limits: &limits, to, interim: if passed { Interim::Pass } else { Interim::Drop } };
    let mut idle = Quiet::new(plan.idle, x.worker.clock.instant());
    let mut per_try = per_try.filter(|_| upload.read_all());
    let mut try_idle = plan.timeouts.per_try_idle.map(|limit| x.worker.clock.instant() + limit);
    let overdue = if upload.read_all() { None } else { overdue(x) };
    let mut sending = true;
    let mut told = Told { passed: 0, queued: down.has_queued() };
    let waited = std::future::poll_fn(|cx| {
        if sending {
            match upload.poll(cx, down, up) {
                Poll::Ready(Err(PumpError::Read(broken))) => return Poll::Ready(Err(Wrong::Client(broken))),
                Poll::Ready(Err(PumpError::Write(_))) => sending = false,
                Poll::Ready(Ok(())) => {
                    sending = false;
                    x.record.mark(TimePoint::UpstreamTxEnd, x.worker.now());
                }
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(head) = poll_head(cx, x, (&mut *down, &mut *up), expect, &mut told) {
            return Poll::Ready(head);
        }
        if let Poll::Ready(at) = hedge::poll(cx, x, plan) {
            return Poll::Ready(Err(Wrong::Overtaken(at)));
        }
        if idle.note(upload.bytes + told.passed) {
            try_idle = plan.timeouts.per_try_idle.map(|limit| x.worker.clock.instant() + limit);
        }
        if plan.deadline.is_none() && upload.read_all() {
            plan.deadline = plan.timeouts.request.map(|limit| x.worker.clock.instant() + limit);
        }
        if per_try.is_none() && upload.read_all() {
            // A slow client's time is not the host's.
            per_try = plan.timeouts.per_try.map(|limit| x.worker.clock.instant() + limit);
        }
        let overdue = overdue.filter(|_| !upload.read_all());
        let due = earlier(earlier(plan.due(), earlier(per_try, try_idle)), earlier(idle.due, overdue));
        if x.alarm.poll(cx, due).is_ready() {
            return Poll::Ready(Err(if plan.has_ended() { Wrong::Ended } else { Wrong::Time }));
        }
        if upload.read_all() && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Wrong::ClientLeft));
        }
        Poll::Pending
    })
    .await;
    plan.begun |= told.passed > 0;
    match waited {
        Ok(()) => {
            x.record.mark(TimePoint::UpstreamRxStart, x.worker.now());
            Ok(None)
        }
        Err(Wrong::Overtaken(at)) => Ok(Some(NoAnswer::Overtaken(at))),
        Err(Wrong::Upstream(no_head)) => Ok(Some(NoAnswer::sent(no_head_reason(&no_head)))),
        Err(Wrong::Time) if idle.is_due() => Err(stream_idle(x, upload)),
        Err(Wrong::Time) if !upload.read_all() && overdue.is_some_and(|at| at <= Instant::now()) => {
            x.record.request_bytes = upload.bytes;
            Err(Reply::request_overdue().into())
        }
        Err(Wrong::Time) if plan.try_has_ended() => {
            Ok(Some(NoAnswer::Reset(Reset { words: Some(TRY_ENDED), ..Reset::after_sending(ResetReason::LocalReset) })))
        }
        Err(Wrong::Time) if try_idle.is_some_and(|at| at <= Instant::now()) => {
            let words = Some("upstream_per_try_idle_timeout");
            Ok(Some(NoAnswer::Reset(Reset { sent: true, words, ..Reset::unsent(ResetReason::PerTryTimeout) })))
        }
        Err(Wrong::Time) => Ok(Some(match timed_out(plan.deadline) {
            ResetReason::PerTryTimeout if plan.hedged && upload.is_done() => NoAnswer::Late,
            reason => NoAnswer::sent(reason),
        })),
        Err(Wrong::Client(broken)) => Err(client_broke(x, down, broken)),
        Err(Wrong::Ended) => Err(Reply::stream_ended(upload.read_all()).into()),
        Err(Wrong::ClientLeft) => Err(client_left(x, down)),
    }
}

/// Interim responses on their way to the client.
struct Told {
    /// Of the upstream's.
    passed: u64,
    /// One of them, or a `100 Continue` of our own, has not been sent yet.
    queued: bool,
}

/// The final response's head. Interim ones are passed on as they come; the upstream has to wait with the next.
fn poll_head(
    cx: &mut Context<'_>,
    x: &mut Exchange<'_>,
    (down, up): (&mut Side, &mut Side),
    expect: Expect<'_>,
    told: &mut Told,
) -> Poll<Result<(), Wrong>> {
    loop {
        if told.queued {
            ready!(down.poll_flush(cx)).map_err(Wrong::Client)?;
            told.queued = false;
        }
        match ready!(up.poll_response(cx, expect, &mut x.heads.response)) {
            Ok(()) if x.heads.response.is_passable() => {
                interim(x, down).map_err(Wrong::Client)?;
                told.passed += 1;
                told.queued = true;
            }
            head => return Poll::Ready(head.map_err(Wrong::Upstream)),
        }
    }
}

/// Passes an interim response on.
fn interim(x: &mut Exchange<'_>, down: &mut Side) -> Result<(), Broken> {
    strip_hop_by_hop(x);
    // It has no body to tell the length of (RFC 9110 §8.6).
    x.heads.response.headers.remove_known(Known::ContentLength);
    down.interim(&x.heads.response)
}

impl NoAnswer {
    fn sent(reason: ResetReason) -> NoAnswer {
        NoAnswer::Reset(Reset::after_sending(reason))
    }
}

enum Wrong {
    Overtaken(usize),
    Upstream(NoHead),
    Client(Broken),
    ClientLeft,
    Time,
    /// The stream took longer than it may.
    Ended,
}

/// When the whole request must have been received, counted from its head: the manager's `request_timeout`.
pub fn overdue(x: &Exchange<'_>) -> Option<Instant> {
    let passed = x.worker.now() - x.record.start;
    x.hcm.timeouts.request.map(|limit| Instant::now() + limit.saturating_sub(passed))
}

/// When a stream on which nothing moves is given up.
pub struct Quiet {
    limit: Option<Duration>,
    pub due: Option<Instant>,
    seen: u64,
}

impl Quiet {
    pub fn new(limit: Option<Duration>, now: Instant) -> Quiet {
        Quiet { limit, due: limit.map(|limit| now + limit), seen: 0 }
    }

    /// Whether something has moved; `moved`: bytes so far, in whatever direction counts.
    pub fn note(&mut self, moved: u64) -> bool {
        let more = moved != self.seen;
        if more {
            self.seen = moved;
            self.due = self.limit.map(|limit| Instant::now() + limit);
        }
        more
    }

    pub fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }
}

/// Nothing moved for too long: a client that does not send gets 408, an upstream that does not answer 504.
fn stream_idle(x: &mut Exchange<'_>, upload: &Upload) -> Failed {
    if upload.read_all() {
        let flags = ResponseFlags::STREAM_IDLE_TIMEOUT;
        return Reply::new(504, "stream timeout", "stream_idle_timeout", flags).into();
    }
    x.record.request_bytes = upload.bytes;
    Reply::stream_idle().into()
}

/// The client's message broke.
pub fn client_broke(x: &mut Exchange<'_>, down: &Side, broken: Broken) -> Failed {
    match broken {
        Broken::Refused(refused) => Reply::malformed(refused).into(),
        _ => client_left(x, down),
    }
}

/// The client closed, or reset its stream.
pub fn client_left(x: &mut Exchange<'_>, down: &Side) -> Failed {
    let (flag, details) = if down.was_reset() {
        (ResponseFlags::DOWNSTREAM_REMOTE_RESET, "http2.remote_reset")
    } else {
        (ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION, "downstream_remote_disconnect")
    };
    x.record.flags.insert(flag);
    x.record.details = details.into();
    Failed::Broken
}

/// Why there is no response, in the retry policy's terms.
pub fn no_head_reason(no_head: &NoHead) -> ResetReason {
    match no_head {
        NoHead::Closed => ResetReason::ConnectionTermination,
        NoHead::Broken(broken) => reason(broken),
    }
}

/// Why an upstream's message broke, in the retry policy's terms.
pub fn reason(broken: &Broken) -> ResetReason {
    match broken {
        Broken::Closed | Broken::Io(_) => ResetReason::ConnectionTermination,
        // A GOAWAY without error, too, leaves a stream that the peer has not looked at.
        Broken::Reset(Reason::REFUSED_STREAM | Reason::NO_ERROR) => ResetReason::RemoteRefused,
        Broken::Reset(_) => ResetReason::RemoteReset,
        Broken::Refused(_) => ResetReason::ProtocolError,
    }
}
