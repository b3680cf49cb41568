//! Upgraded exchanges (WebSocket) and CONNECT: after the switch, bytes pass both ways until both ends are done.
//!
//! Over HTTP/1.1 an upgrade's switch is a 101; over HTTP/2 it is a 200 to an extended CONNECT (RFC 8441). Either is
//! translated into the other, as Envoy does. CONNECT's is any 2xx; where it ends here, the endpoint knows nothing of it.

use std::task::Poll;

use tulle_core::ResponseFlags;
use tulle_http::h1::encode::{Fate, hop_by_hop};
use tulle_http::h2::Reason;
use tulle_http::{Framing, Known, Pump, PumpError, Side};
use tulle_telemetry::TimePoint;

use super::attempt::{Answered, Quiet, client_left};
use super::deliver::VIA_UPSTREAM;
use super::forward::Plan;
use super::{Ending, Exchange, Failed, complete_response_head, mutate_response};
use crate::worker::alarm::earlier;

/// Whether the upstream agreed to switch.
pub fn accepted(x: &Exchange<'_>, up: &Side) -> bool {
    let status = x.heads.response.status;
    match up {
        Side::H1(_) if x.heads.request.tunnel.is_upgrade() => status == 101,
        Side::H1(_) | Side::H2(_) => (200..300).contains(&status),
    }
}

pub async fn tunnel(
    x: &mut Exchange<'_>,
    down: &mut Side,
    plan: &Plan<'_>,
    mut answered: Answered,
) -> Result<Ending, Failed> {
    let fate = head(x, plan);
    if down.respond(&x.heads.response, fate).is_err() {
        return Err(client_left(x, down));
    }
    x.record.mark(TimePoint::DownstreamTxStart, x.worker.now());
    for side in [&mut *down, &mut answered.up] {
        if let Side::H1(conn) = side {
            conn.begin_read(Framing::Close);
            conn.begin_write(Framing::Close);
        }
    }
    let (mut to_up, mut to_down) = (Pump::default(), Pump::default());
    let result = both_ways(x, (down, &mut answered.up), plan, (&mut to_up, &mut to_down)).await;
    x.record.request_bytes = to_up.bytes;
    x.record.response_bytes = to_down.bytes;
    x.record.mark(TimePoint::DownstreamTxEnd, x.worker.now());
    // On HTTP/2 an end of both directions is no more than that.
    if result.is_ok() && to_up.is_done() && matches!(down, Side::H1(_)) {
        x.record.flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
    }
    if let Err(flag) = result {
        let given_up = flag == ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION && down.was_reset();
        x.record.flags.insert(if given_up { ResponseFlags::DOWNSTREAM_REMOTE_RESET } else { flag });
        if let Side::H2(stream) = down {
            stream.reset(if fate == Fate::Tunnel { Reason::CONNECT_ERROR } else { Reason::CANCEL });
        }
    }
    Ok(Ending::Close)
}

fn head(x: &mut Exchange<'_>, plan: &Plan<'_>) -> Fate {
    let request = &x.heads.request;
    let response = &mut x.heads.response;
    // As the upstream names it, where its version of HTTP does.
    let named = response.headers.known(Known::Upgrade).or(request.headers.known(Known::Upgrade));
    let protocol = named.filter(|_| request.tunnel.is_upgrade()).map(<[u8]>::to_vec);
    response.headers.remove_where(|known, _, _| hop_by_hop(known));
    let fate = match protocol {
        Some(protocol) => {
            response.headers.push(b"upgrade", &protocol);
            response.status = 101;
            Fate::Upgrade
        }
        None => Fate::Tunnel,
    };
    response.framing = Framing::None;
    x.record.status = response.status;
    x.record.details = VIA_UPSTREAM.into();
    mutate_response(x, &plan.selected);
    complete_response_head(x);
    fate
}

/// Runs until one direction fails, nothing moves for too long, or both have ended. An end in one direction is passed
/// on as a half-close; once the upstream has ended, nothing that the client could still say is of use.
async fn both_ways(
    x: &mut Exchange<'_>,
    (down, up): (&mut Side, &mut Side),
    plan: &Plan<'_>,
    (to_up, to_down): (&mut Pump, &mut Pump),
) -> Result<(), ResponseFlags> {
    let mut idle = Quiet::new(plan.idle, x.worker.clock.instant());
    std::future::poll_fn(|cx| {
        let up_result = to_up.poll(cx, down, up);
        let down_result = to_down.poll(cx, up, down);
        match (up_result, down_result) {
            (_, Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            (_, Poll::Ready(Err(PumpError::Read(_)))) | (Poll::Ready(Err(PumpError::Write(_))), _) => {
                return Poll::Ready(Err(ResponseFlags::UPSTREAM_CONNECTION_TERMINATION));
            }
            (_, Poll::Ready(Err(PumpError::Write(_)))) | (Poll::Ready(Err(PumpError::Read(_))), _) => {
                return Poll::Ready(Err(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION));
            }
            _ => {}
        }
        idle.note(to_up.bytes + to_down.bytes);
        if x.alarm.poll(cx, earlier(idle.due, plan.ends)).is_ready() {
            if plan.has_ended() {
                return Poll::Ready(Ok(()));
            }
            return Poll::Ready(Err(ResponseFlags::STREAM_IDLE_TIMEOUT));
        }
        Poll::Pending
    })
    .await
}
