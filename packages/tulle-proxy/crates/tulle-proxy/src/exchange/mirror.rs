//! Mirroring: copies of a request go to other clusters, and what becomes of them matters to nobody.
//!
//! A copy leaves once the whole body is known: it is collected, without being copied, as it passes to the real upstream.
//! A body beyond the buffer limit is not mirrored. Copies run as tasks of their own under their cluster's own limits.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tulle_balance::outlier::HostResult;
use tulle_balance::{Host, PickContext};
use tulle_connect::{Lease, ServerIs, Terms, Whose};
use tulle_http::h1::Limits;
use tulle_http::h1::encode::Fate;
use tulle_http::side::open_h2;
use tulle_http::{Broken, Expect, Framing, Headers, Interim, Piece, RequestHead, ResponseHead, Side, To, Tunnel};
use tulle_policy::Priority;
use tulle_route::{ClusterName, HeaderMutation, Mirror, MirrorHost};

use super::Exchange;
use super::attempt::{Hold, response_limits, wanted};
use super::forward::Plan;
use super::record::View;
use crate::worker::stand_in::{self, Ask};
use crate::worker::{Target, Worker};

/// A request on its way to being mirrored.
pub struct Mirrored {
    worker: Rc<Worker>,
    head: RequestHead,
    copies: Vec<Copied>,
    timeout: Option<Duration>,
    body: Vec<Piece>,
    room: usize,
}

/// One of the copies.
struct Copied {
    target: Rc<Target>,
    host: MirrorHost,
    /// Its own, where it is changed.
    head: Option<Box<RequestHead>>,
}

/// The copies to be made of this request, by its cluster's policies where there are any; `None` when there are none, which is nearly always.
pub fn begin(x: &Exchange<'_>, plan: &Plan<'_>, of_cluster: &[Mirror]) -> Option<Box<Mirrored>> {
    let mirrors = if of_cluster.is_empty() { &*plan.action.mirrors } else { of_cluster };
    if mirrors.is_empty() || x.heads.request.tunnel != Tunnel::No {
        return None;
    }
    let copies: Vec<Copied> = mirrors.iter().filter_map(|mirror| copy(x, plan, mirror)).collect();
    if copies.is_empty() {
        return None;
    }
    let mut head = RequestHead::default();
    head.copy_from(&x.heads.request);
    dress(x, plan, &mut head);
    Some(Box::new(Mirrored {
        worker: x.worker.clone(),
        head,
        copies,
        timeout: plan.timeouts.request,
        body: Vec::new(),
        room: x.client.listener.buffer_limit as usize,
    }))
}

/// As Envoy's own requests go: from this address, inside the mesh.
fn dress(x: &Exchange<'_>, plan: &Plan<'_>, head: &mut RequestHead) {
    if plan.selected.host.include_attempt_count.in_request {
        head.headers.set(b"x-envoy-attempt-count", b"1");
    }
    head.headers.append_csv(b"x-forwarded-for", x.client.local.ip().to_canonical().to_string().as_bytes());
    head.headers.set(b"x-envoy-internal", b"true");
}

fn copy(x: &Exchange<'_>, plan: &Plan<'_>, mirror: &Mirror) -> Option<Copied> {
    if !mirror.fraction.hits(x.worker.random()) {
        return None;
    }
    let target = match &mirror.cluster {
        ClusterName::Is(name) => x.worker.target(name),
        ClusterName::Header(name) => {
            let named = x.heads.request.headers.get(name.as_bytes())?;
            x.worker.target(std::str::from_utf8(named).ok()?)
        }
    };
    let head = (!mirror.mutations.is_empty()).then(|| changed(x, plan, &mirror.mutations));
    Some(Copied { target: target?, host: mirror.host.clone(), head })
}

/// The head with its changes, each of which sees what those before it did.
fn changed(x: &Exchange<'_>, plan: &Plan<'_>, mutations: &[HeaderMutation]) -> Box<RequestHead> {
    let (mut head, mut before) = (Box::<RequestHead>::default(), RequestHead::default());
    let mut scratch = Vec::new();
    head.copy_from(&x.heads.request);
    for mutation in mutations {
        before.copy_from(&head);
        let view = View::new(x.client, &before, None, &x.record);
        mutation.apply(&view, &mut head.headers, &mut scratch);
    }
    dress(x, plan, &mut head);
    head
}

/// Takes in the body's next part. Gives the copies back for as long as they are waiting for more.
pub fn take(mut mirrored: Box<Mirrored>, piece: &Piece) -> Option<Box<Mirrored>> {
    let ended = match piece {
        Piece::Data { data, last } => {
            mirrored.room = mirrored.room.checked_sub(data.len())?;
            *last
        }
        Piece::Trailers(_) | Piece::End => true,
    };
    mirrored.body.push(piece.clone());
    if ended {
        send(*mirrored);
        return None;
    }
    Some(mirrored)
}

/// Sends the copies.
pub fn send(mirrored: Mirrored) {
    let Mirrored { worker, head, copies, timeout, body, .. } = mirrored;
    for Copied { target, host, head: changed } in copies {
        let mut own = RequestHead::default();
        own.copy_from(changed.as_deref().unwrap_or(&head));
        match &host {
            MirrorHost::Shadow => own.set_authority(&shadow(head.authority())),
            MirrorHost::Is(host) => own.set_authority(host.as_bytes()),
            MirrorHost::Keep => {}
        }
        let (worker, body) = (worker.clone(), body.clone());
        tokio::task::spawn_local(async move {
            let sending = ask(&worker, &target, &own, body, 0);
            let _unheeded = match timeout {
                Some(limit) => tokio::time::timeout(limit, sending).await.unwrap_or(None),
                None => sending.await,
            };
        });
    }
}

/// `host-shadow`, before the port (Envoy's `-shadow` suffix).
fn shadow(authority: &[u8]) -> Vec<u8> {
    let bracket = authority.iter().rposition(|b| *b == b']').unwrap_or(0);
    let port = authority.iter().rposition(|b| *b == b':').filter(|at| *at > bracket);
    let (host, port) = authority.split_at(port.unwrap_or(authority.len()));
    [host, b"-shadow", port].concat()
}

/// An answer, and as much of its body as was asked for.
#[derive(Default)]
pub struct Answered {
    pub head: ResponseHead,
    pub body: Vec<u8>,
    pub trailers: Option<Box<Headers>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Not in time.
    Late,
    /// Nobody could be asked, or what came was no answer.
    Unanswered,
}

/// Asks the cluster of this name, as [`ask`] does, for no longer than its time.
pub async fn ask_cluster(
    worker: &Rc<Worker>,
    (cluster, timeout): (&str, Option<Duration>),
    (head, body): (&RequestHead, Vec<Piece>),
    keep: usize,
) -> Result<Answered, Missed> {
    let target = worker.target(cluster).ok_or(Missed::Unanswered)?;
    let asking = ask(worker, &target, head, body, keep);
    let answered = match timeout {
        Some(limit) => tokio::time::timeout(limit, asking).await.map_err(|_| Missed::Late)?,
        None => asking.await,
    };
    answered.ok_or(Missed::Unanswered)
}

/// One request of our own, by the cluster's limits: sent, its answer read; of the body up to `keep` bytes are kept, and
/// with any kept a longer one is an error. `None` when there is no answer; the cluster's counters tell.
pub async fn ask(
    worker: &Rc<Worker>,
    target: &Rc<Target>,
    head: &RequestHead,
    body: Vec<Piece>,
    keep: usize,
) -> Option<Answered> {
    let chosen = target.by_call().then(|| stand_in::seat(worker, target, Ask { attempt: 1, without: &[] })).flatten();
    let target = chosen.as_ref().map_or(target, |seat| &seat.target);
    let upstream = &target.upstream;
    target.settled().await;
    worker.metrics.sheet.inc(target.metrics.stats.upstream_rq_total);
    let _counted = upstream.admit_request(Priority::Default).ok()?;
    let host = upstream.pick(&PickContext::default(), &mut worker.rng.borrow_mut()).ok()?;
    let _active = host.begin();
    let wanted = wanted(&upstream.config_ref(), head.version);
    let name = upstream.config_ref().tls_name.as_ref().and_then(|name| ServerIs::by_request(name, head.authority()));
    let whose = name.map(|name| Whose { ends: None, name: Some(name) });
    let terms = Terms { wanted, priority: Priority::Default, client: whose.as_ref() };
    let answered = match lease(worker, target, &host, terms).await {
        Some(lease) => exchange(worker, target, lease, (head, body, keep)).await.ok(),
        None => None,
    };
    let failed = HostResult::LocalOriginFailure;
    let result = answered.as_ref().map_or(failed, |answered| HostResult::Status(answered.head.status));
    worker.metrics.sheet.inc(target.metrics.stats.upstream_rq_completed);
    upstream.report(host.id, result, &mut worker.rng.borrow_mut());
    answered
}

async fn lease(worker: &Worker, target: &Target, host: &Rc<Host>, terms: Terms<'_>) -> Option<Lease> {
    if let Some(lease) = target.upstream.try_lease(host, terms) {
        return Some(lease);
    }
    worker.metrics.sheet.inc(target.metrics.stats.upstream_cx_total);
    target.upstream.lease(host, terms).await.ok()
}

async fn exchange(
    worker: &Worker,
    target: &Target,
    lease: Lease,
    (head, body, keep): (&RequestHead, Vec<Piece>, usize),
) -> Result<Answered, Broken> {
    let (mut up, hold) = match lease {
        Lease::H1(mut conn, lease) => {
            conn.queue_request(head, if lease.is_last() { Fate::Close } else { Fate::Keep });
            (Side::H1(conn), Hold::H1(lease))
        }
        Lease::H2(lease) => (open_h2(lease.link(), head)?, Hold::H2(lease)),
    };
    for piece in body {
        match piece {
            Piece::Data { data, last } => up.write(data, last)?,
            Piece::Trailers(list) => up.end(Some(&list))?,
            Piece::End => up.end(None)?,
        }
        std::future::poll_fn(|cx| up.poll_flush(cx)).await?;
    }
    let limits = response_limits(&target.upstream.config_ref());
    let answered = answer(&mut up, &limits, head, keep).await?;
    let clean = !answered.head.close && answered.head.framing != Framing::Close;
    if let (Side::H1(conn), Hold::H1(lease), true) = (up, hold, clean)
        && conn.read_ended()
        && !conn.has_input()
    {
        lease.give_back(conn, worker.now());
    }
    Ok(answered)
}

/// Reads an answer to its end.
async fn answer(up: &mut Side, limits: &Limits, head: &RequestHead, keep: usize) -> Result<Answered, Broken> {
    let to = if head.is_head() { To::Head } else { To::Other };
    let mut answered = Answered::default();
    std::future::poll_fn(|cx| read(cx, up, Expect { limits, to, interim: Interim::Drop }, &mut answered.head)).await?;
    while !answered.head.framing.is_empty() && !up.read_ended() {
        match std::future::poll_fn(|cx| up.poll_body(cx)).await? {
            Piece::Data { data, last } => {
                if keep > 0 {
                    answered.body.extend_from_slice(&data);
                }
                if answered.body.len() > keep {
                    return Err(Broken::Closed);
                }
                if last {
                    break;
                }
            }
            Piece::Trailers(trailers) => {
                answered.trailers = Some(trailers);
                break;
            }
            Piece::End => break,
        }
    }
    Ok(answered)
}

/// Sends what is queued and reads a response's head.
pub fn read(
    cx: &mut Context<'_>,
    up: &mut Side,
    expect: Expect<'_>,
    out: &mut ResponseHead,
) -> Poll<Result<(), Broken>> {
    use tulle_http::h1::conn::NoHead;
    if let Poll::Ready(Err(broken)) = up.poll_flush(cx) {
        return Poll::Ready(Err(broken));
    }
    up.poll_response(cx, expect, out).map_err(|no_head| match no_head {
        NoHead::Closed => Broken::Closed,
        NoHead::Broken(broken) => broken,
    })
}

#[cfg(test)]
mod tests {
    use super::shadow;

    #[test]
    fn the_suffix_goes_before_the_port() {
        for (authority, expected) in [
            ("backend", "backend-shadow"),
            ("backend:8080", "backend-shadow:8080"),
            ("[::1]", "[::1]-shadow"),
            ("[::1]:80", "[::1]-shadow:80"),
        ] {
            assert_eq!(String::from_utf8(shadow(authority.as_bytes())).unwrap(), expected);
        }
    }
}
