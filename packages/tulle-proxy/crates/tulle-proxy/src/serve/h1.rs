//! The serving loop of an HTTP/1.1 connection: one request after another, all in this one task.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tulle_config::Hcm;
use tulle_config::hcm::{HeaderCase, Http1Options, Underscores as Names};
use tulle_core::ResponseFlags;
use tulle_http::h1::conn::{Connection, NoHead, Trailers};
use tulle_http::h1::{Case, Http10, Limits, Methods, Reading, Refused, Targets, Underscores};
use tulle_http::{Broken, Side, Version};

use super::{Client, Manager};
use crate::exchange::record::Record;
use crate::exchange::reply::Reply;
use crate::exchange::{self, Ending, Exchange, Heads, LastOnConnection};
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, earlier};

/// How long an idle connection of a draining worker may still send a request that is already on its way.
const LAST_CALL: Duration = Duration::from_millis(500);
/// The same of one that has not sent any: its client has only just come, and may be slow to begin.
pub(super) const FIRST_CALL: Duration = Duration::from_secs(2);

pub async fn serve(worker: &Rc<Worker>, client: &Client, hcm: &Arc<Hcm>, mut conn: Connection) {
    if hcm.http1.header_case == HeaderCase::Proper {
        conn.case = Case::Words;
    }
    conn.trailer_mode = if hcm.http1.enable_trailers { Trailers::Forward } else { Trailers::Drop };
    let limits = limits(hcm);
    let mut down = Side::H1(Box::new(conn));
    let mut heads = Heads::default();
    let mut alarm = Alarm::default();
    let mut served = 0u32;
    let born = Instant::now();
    loop {
        let Side::H1(conn) = &mut down else { return };
        conn.idle();
        let patience = if served == 0 { FIRST_CALL } else { LAST_CALL };
        let next = next_request(worker, (client, hcm), conn, &limits, (&mut heads, &mut alarm, born, patience)).await;
        served += 1;
        let outdated = client.outdated(worker);
        let newer;
        let hcm = match if outdated { client.manager(worker) } else { Manager::Same } {
            Manager::Same => hcm,
            Manager::Now(manager) => {
                newer = manager;
                &newer
            }
            Manager::Nobody => break,
        };
        let last = hcm.max_requests_per_connection.is_some_and(|max| served >= max) || outdated;
        let x = Exchange {
            worker,
            hcm,
            client,
            record: Record::new(worker.now(), worker.clock.wall()),
            upload: None,
            last: if last { LastOnConnection::Yes } else { LastOnConnection::No },
            heads: &mut heads,
            alarm: &mut alarm,
        };
        match next {
            Ok(()) => {
                if exchange::serve(x, &mut down).await == Ending::Close {
                    break;
                }
            }
            Err(Ended::Refused(refused)) => {
                exchange::refuse(x, &mut down, Reply::malformed(refused)).await;
                break;
            }
            Err(Ended::HeadTimeout) => {
                let reply = Reply::new(408, "request header timeout", "request_header_timeout", ResponseFlags::NONE);
                exchange::refuse(x, &mut down, reply.closing()).await;
                break;
            }
            Err(Ended::Closed) => return,
        }
    }
    close(down).await;
}

/// Why there is no further request.
enum Ended {
    Closed,
    HeadTimeout,
    Refused(Refused),
}

async fn next_request(
    worker: &Worker,
    (client, hcm): (&Client, &Hcm),
    conn: &mut Connection,
    limits: &Limits,
    (heads, alarm, born, patience): (&mut Heads, &mut Alarm, Instant, Duration),
) -> Result<(), Ended> {
    let idle = hcm.timeouts.idle.map(|limit| worker.clock.instant() + limit);
    let oldest = hcm.timeouts.max_connection_duration.map(|limit| born + limit);
    let mut idle = earlier(idle, oldest);
    let mut told = false;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(ready) = conn.poll_readable(cx) {
            return Poll::Ready(ready.map_err(|_| Ended::Closed));
        }
        if !told && client.present.poll_draining(cx).is_ready() {
            told = true;
            idle = earlier(idle, Some(Instant::now() + patience));
        }
        alarm.poll(cx, idle).map(|()| Err(Ended::Closed))
    })
    .await?;
    let due = hcm.timeouts.request_headers.map(|limit| worker.clock.instant() + limit);
    std::future::poll_fn(|cx| match conn.poll_request(cx, limits, &mut heads.request) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
        Poll::Ready(Err(NoHead::Broken(Broken::Refused(refused)))) => Poll::Ready(Err(Ended::Refused(refused))),
        Poll::Ready(Err(_)) => Poll::Ready(Err(Ended::Closed)),
        Poll::Pending => alarm.poll(cx, due).map(|()| Err(Ended::HeadTimeout)),
    })
    .await?;
    if let (Version::Http10, Some(host)) = (heads.request.version, &hcm.http1.default_host_for_http_1_0)
        && heads.request.authority().is_empty()
    {
        heads.request.set_authority(host.as_bytes());
    }
    Ok(())
}

/// What the connection manager's settings mean to the codec.
pub fn limits(hcm: &Hcm) -> Limits {
    let Http1Options { accept_http_1_0, default_host_for_http_1_0, header_case, .. } = &hcm.http1;
    let Http1Options { allow_custom_methods, allow_absolute_url, .. } = hcm.http1;
    Limits {
        head_bytes: hcm.max_request_headers_bytes,
        line_bytes: hcm.max_request_headers_bytes,
        headers: hcm.max_headers,
        http10: match (accept_http_1_0, default_host_for_http_1_0) {
            (false, _) => Http10::Refuse,
            (true, None) => Http10::Accept,
            (true, Some(_)) => Http10::AcceptWithoutHost,
        },
        names: reading(*header_case),
        methods: if allow_custom_methods { Methods::Any } else { Methods::Registered },
        targets: if allow_absolute_url { Targets::Any } else { Targets::OriginOnly },
        underscores: match hcm.underscores {
            Names::Allow => Underscores::Allow,
            Names::Drop => Underscores::Drop,
            Names::Reject => Underscores::Refuse,
        },
    }
}

/// What becomes of the case in which names come.
pub fn reading(case: HeaderCase) -> Reading {
    match case {
        HeaderCase::Lower | HeaderCase::Proper => Reading::Fold,
        HeaderCase::Preserve => Reading::Keep(Case::Lower),
        HeaderCase::PreserveElseProper => Reading::Keep(Case::Words),
    }
}

/// Says goodbye: the client may still be sending, and closing with unread bytes would reset the answer away before it
/// is read. So the writing side closes first, and what still comes is read and dropped for a moment.
pub(super) async fn close(down: Side) {
    const LINGER: Duration = Duration::from_secs(1);
    let Side::H1(mut conn) = down else { return };
    let goodbye = std::future::poll_fn(|cx| {
        if conn.poll_shutdown(cx).is_pending() {
            return Poll::Pending;
        }
        conn.poll_discard(cx)
    });
    let _limit = tokio::time::timeout(LINGER, goodbye).await;
}
