//! Delivering an upstream's answer: the head is completed and sent, the body follows as it comes, and both connections
//! are kept where both messages ended cleanly.

use std::task::{Context, Poll, Waker};

use tulle_core::ResponseFlags;
use tulle_http::h1::encode::{Digits, Fate, HOP_BY_HOP, hop_by_hop};
use tulle_http::h2::Reason;
use tulle_http::throttle::Throttle;
use tulle_http::{Broken, Framing, Known, Piece, Pump, PumpError, Side, Tunnel, Version};
use tulle_policy::ResetReason;
use tulle_telemetry::TimePoint;

use super::attempt::{self, Answered, Hold, Quiet};
use super::forward::Plan;
use super::outgoing::envoy_headers;
use super::tries::RETRIED;
use super::upload::Upload;
use super::{Ending, Exchange, Failed, bandwidth, complete_response_head, mutate_response, number, response_fate};
use crate::worker::alarm::earlier;

/// As response code details: an upstream's answer.
pub const VIA_UPSTREAM: &str = "via_upstream";

pub async fn deliver(
    x: &mut Exchange<'_>,
    down: &mut Side,
    plan: &mut Plan<'_>,
    mut answered: Answered,
    mut upload: Upload,
) -> Result<Ending, Failed> {
    upload.commit();
    let clean = Clean { close: x.heads.response.close, framing: x.heads.response.framing };
    x.record.status = x.heads.response.status;
    x.record.details = VIA_UPSTREAM.into();
    let fate = head(x, down, plan, &upload);
    let mut pump = if x.heads.response.framing.is_empty() { Pump::finished() } else { Pump::default() };
    let keeping = plan.keeping.take();
    if let Some(rate) = x.record.edits.as_ref().and_then(|edits| edits.throughput) {
        pump.throttle = Some(Box::new(Throttle::new(rate)));
    }
    bandwidth::of_response(x, &mut pump);
    pump.copy = keeping.as_ref().and_then(|keeping| keeping.copy(x));
    let respond = down.respond(&x.heads.response, fate);
    x.record.mark(TimePoint::DownstreamTxStart, x.worker.now());
    let result = match respond {
        Ok(()) => bodies(x, (down, &mut answered.up), plan, &mut upload, &mut pump).await,
        Err(_) => Err(Stopped::ClientLeft),
    };
    x.record.request_bytes = upload.bytes;
    x.record.response_bytes = pump.bytes;
    x.record.trailers = pump.trailers.take();
    let trailing = x.record.trailers.as_ref().and_then(|trailers| trailers.known(Known::GrpcStatus));
    let trailing = trailing.or_else(|| x.heads.response.headers.known(Known::GrpcStatus)).and_then(number);
    x.record.grpc_status = trailing.filter(|_| x.record.grpc);
    x.record.mark(TimePoint::DownstreamTxEnd, x.worker.now());
    if let Err(stopped) = result {
        return Err(note(x, stopped, down, &answered.up));
    }
    if let (Some(keeping), Some(copy)) = (keeping, pump.copy.take()) {
        keeping.keep(x, &plan.target, copy);
    }
    give_back(x, answered, &upload, clean);
    if upload.read_all() {
        return Ok(if fate == Fate::Close { Ending::Close } else { Ending::Keep });
    }
    Ok(Ending::Close)
}

/// How the upstream's message ends its connection.
struct Clean {
    close: bool,
    framing: Framing,
}

/// Completes the response's head for the client.
fn head(x: &mut Exchange<'_>, down: &Side, plan: &Plan<'_>, upload: &Upload) -> Fate {
    strip_hop_by_hop(x);
    if envoy_headers(x) && x.heads.request.tunnel == Tunnel::No {
        service_time(x);
    }
    if x.record.retried {
        x.heads.response.headers.set(RETRIED, b"true");
    }
    if plan.selected.host.include_attempt_count.in_response {
        let text = x.record.attempts.to_string();
        x.heads.response.headers.set(b"x-envoy-attempt-count", text.as_bytes());
    }
    for cookie in &plan.cookies {
        x.heads.response.headers.push(b"set-cookie", cookie.as_bytes());
    }
    mutate_response(x, &plan.selected);
    complete_response_head(x);
    let old_client = x.heads.request.version == Version::Http10;
    let response = &mut x.heads.response;
    response.framing = match (down, response.framing) {
        (Side::H1(_), Framing::Close | Framing::Delimited) if old_client => Framing::Close,
        (_, Framing::Close) => Framing::Delimited,
        (_, framing) => framing,
    };
    // The rest of a request that is answered early is read, but nothing behind it: the client is told so.
    let early = matches!(down, Side::H1(_)) && !upload.read_all();
    if early || response.framing == Framing::Close { Fate::Close } else { response_fate(x) }
}

/// Takes off what belongs to the upstream's connection, and what it nominates as such.
pub fn strip_hop_by_hop(x: &mut Exchange<'_>) {
    let headers = &mut x.heads.response.headers;
    if !headers.had(HOP_BY_HOP) {
        return;
    }
    if headers.has(Known::Connection) {
        let nominated: Vec<Vec<u8>> = headers
            .all_known(Known::Connection)
            .flat_map(|value| value.split(|b| *b == b','))
            .map(|token| token.trim_ascii().to_ascii_lowercase())
            .collect();
        headers.remove_where(|known, name, _| {
            !matches!(known, Known::ContentLength) && nominated.iter().any(|n| n == name)
        });
    }
    headers.remove_where(|known, _, _| hop_by_hop(known) && known != Known::ContentLength);
}

/// Milliseconds from the request's end to the response's head; nothing where that came first.
fn service_time(x: &mut Exchange<'_>) {
    let Some(from) = x.record.at(TimePoint::UpstreamTxEnd) else { return };
    let took = x.record.at(TimePoint::UpstreamRxStart).unwrap_or(from) - from;
    let text = Digits::of(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    x.heads.response.headers.set(b"x-envoy-upstream-service-time", &text);
}

/// Why delivery stopped.
enum Stopped {
    Upstream(Broken),
    ClientLeft,
    Deadline,
    Idle,
    /// The stream took longer than it may.
    Ended,
    /// The stream to the endpoint did.
    TryEnded,
}

/// Moves what is left of the request's body and the response's body at once.
async fn bodies(
    x: &mut Exchange<'_>,
    (down, up): (&mut Side, &mut Side),
    plan: &Plan<'_>,
    upload: &mut Upload,
    pump: &mut Pump,
) -> Result<(), Stopped> {
    let mut idle = Quiet::new(plan.idle, x.worker.clock.instant());
    let mut sending = !upload.is_done();
    std::future::poll_fn(|cx| {
        if sending {
            match upload.poll(cx, down, up) {
                Poll::Ready(Err(PumpError::Read(_))) => return Poll::Ready(Err(Stopped::ClientLeft)),
                // An upstream may answer without taking the body; the answer still counts.
                Poll::Ready(_) => sending = false,
                Poll::Pending => {}
            }
        }
        match pump.poll(cx, up, down) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(PumpError::Read(broken))) => return Poll::Ready(Err(Stopped::Upstream(broken))),
            Poll::Ready(Err(PumpError::Write(_))) => return Poll::Ready(Err(Stopped::ClientLeft)),
            Poll::Pending => {}
        }
        idle.note(upload.bytes + pump.bytes);
        if x.alarm.poll(cx, earlier(plan.due(), idle.due)).is_ready() {
            let stopped = match (plan.has_ended(), idle.is_due()) {
                (true, _) => Stopped::Ended,
                _ if plan.try_has_ended() => Stopped::TryEnded,
                (false, true) => Stopped::Idle,
                (false, false) => Stopped::Deadline,
            };
            return Poll::Ready(Err(stopped));
        }
        if upload.read_all() && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stopped::ClientLeft));
        }
        Poll::Pending
    })
    .await
}

/// Flags and details of a response that broke off.
fn note(x: &mut Exchange<'_>, stopped: Stopped, down: &mut Side, up: &Side) -> Failed {
    match stopped {
        Stopped::ClientLeft => return attempt::client_left(x, down),
        Stopped::Deadline => {
            x.record.flags.insert(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT);
            x.record.details = "response_timeout".into();
        }
        Stopped::Idle => {
            x.record.flags.insert(ResponseFlags::STREAM_IDLE_TIMEOUT);
            x.record.details = "stream_idle_timeout".into();
        }
        Stopped::TryEnded => {
            x.record.flags.insert(ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED);
            x.record.details = attempt::TRY_ENDED.into();
        }
        Stopped::Ended => x.record.details = "max_duration_timeout".into(),
        Stopped::Upstream(broken) => {
            let (flag, cause) = match attempt::reason(&broken) {
                // An HTTP/1 body that breaks off is a malformed message (RFC 9112 §8).
                ResetReason::ConnectionTermination if matches!(up, Side::H1(_)) => {
                    (ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "http1_premature_upstream_half_close")
                }
                ResetReason::ProtocolError => (ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "protocol_error"),
                ResetReason::ConnectionTermination => {
                    (ResponseFlags::UPSTREAM_CONNECTION_TERMINATION, "connection_termination")
                }
                _ => (ResponseFlags::UPSTREAM_REMOTE_RESET, "remote_reset"),
            };
            x.record.flags.insert(flag);
            x.record.details = format!("upstream_reset_after_response_started{{{cause}}}").into();
        }
    }
    if let Side::H2(stream) = down {
        // As Envoy says it, whatever the upstream's own code was.
        stream.reset(Reason::INTERNAL_ERROR);
    }
    Failed::Broken
}

/// Drops an answer that is not delivered; its connection is kept when the rest of the answer has come already.
pub fn discard(x: &Exchange<'_>, mut answered: Answered, upload: &Upload) {
    let clean = Clean { close: x.heads.response.close, framing: x.heads.response.framing };
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Ok(Piece::Data { last: false, .. })) = answered.up.poll_body(&mut cx) {}
    give_back(x, answered, upload, clean);
}

/// Returns the upstream connection when both messages on it ended and nothing unasked for is behind them.
fn give_back(x: &Exchange<'_>, answered: Answered, upload: &Upload, clean: Clean) {
    let whole = upload.is_done() && !clean.close && clean.framing != Framing::Close;
    if let (Side::H1(conn), Hold::H1(lease), true) = (answered.up, answered.hold, whole)
        && conn.read_ended()
        && !conn.has_input()
    {
        lease.give_back(conn, x.worker.now());
    }
}
