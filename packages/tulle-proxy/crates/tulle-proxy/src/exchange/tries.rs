//! The tries of a request: hosts are picked and asked until one answers or the retry policy gives up.

use std::rc::Rc;

use tokio::time::Instant;
use tulle_balance::{HostId, PickContext};
use tulle_connect::Admission;
use tulle_core::{ResponseFlags, UnixNanos};
use tulle_http::{Known, ResponseHead, Side};
use tulle_policy::outcome::http_of_grpc;
use tulle_policy::{Decision, Outcome, ResetReason, RetryPolicy, RetryState};
use tulle_telemetry::TimePoint;

use super::attempt::{self, Answered, Reset, Tried};
use super::forward::Plan;
use super::reply::Reply;
use super::session::{self, Affinity};
use super::upload::Upload;
use super::{Exchange, Failed, deliver, guarded, hedge, outgoing};
use crate::worker::stand_in::{self, Ask};

/// Tells a caller that retries are used up on the way to the failure.
pub const RETRIED: &[u8] = b"x-tulle-retried";

pub type Retrying<'p> = Option<(&'p RetryPolicy, RetryState)>;

/// Tries hosts until there is an answer to deliver.
pub async fn attempts<'c>(
    x: &mut Exchange<'_>,
    down: &mut Side,
    plan: &mut Plan<'c>,
    retrying: &mut Retrying<'c>,
    upload: &mut Upload,
) -> Result<Answered, Failed> {
    let mut tried = Avoided::default();
    let mut repeated = 0;
    // Counts against the breaker for as long as the retry runs.
    let mut counted: Option<Admission> = None;
    loop {
        x.record.attempts += 1;
        if plan.group.is_some() && x.record.attempts > 1 {
            reseat(x, plan, &mut tried);
        }
        let host = pick(x, plan, &mut tried, retrying)?;
        outgoing::name_host(x, plan, &host);
        guarded::tell(x, plan)?;
        count_attempt(x, plan);
        let result = attempt::attempt(x, down, plan, &host, upload).await?;
        if let Tried::Reset(reset) = &result
            && !plan.begun
            && may_repeat(x, reset, upload, repeated)
        {
            repeated += 1;
            upload.rewind();
            x.record.attempts -= 1;
            continue;
        }
        if let Tried::Overtaken(at) = result {
            return Ok(hedge::take(x, plan, at));
        }
        report(x, plan, &host, &result);
        drop(counted.take());
        let decision;
        (decision, counted) = decide(x, plan, retrying, &result, upload);
        if let Decision::RetryAt(at) = decision {
            tell_timeout(x, plan, &result);
            match result {
                Tried::Answered(answered) => deliver::discard(x, answered, upload),
                Tried::Late(late) => hedge::leave(plan, (&host, late), retrying),
                Tried::Reset(_) | Tried::Overtaken(_) => {}
            }
            tried.note(x, plan, &host, retrying);
            if let Some(at) = pause(x, plan, down, at).await? {
                return Ok(hedge::take(x, plan, at));
            }
            upload.rewind();
            continue;
        }
        if decision == Decision::LimitExceeded {
            x.record.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        }
        if plan.hedged {
            return hedge::last((x, plan, down), (result, &host), retrying, upload).await;
        }
        return match result {
            Tried::Answered(answered) => Ok(answered),
            Tried::Reset(reset) => Err(reply_to(x, plan, reset).into()),
            // Only hedged tries are left running.
            Tried::Late(_) | Tried::Overtaken(_) => Err(Failed::Broken),
        };
    }
}

/// A pooled connection that the peer was closing says nothing about the request: it is tried again, unseen. When nothing
/// was sent, whatever it asks; else once, and only what may be asked twice (RFC 9110 §9.2.2).
fn may_repeat(x: &Exchange<'_>, reset: &Reset, upload: &Upload, repeated: u32) -> bool {
    const STALE: u32 = 3;
    if !reset.stale || !upload.can_repeat() {
        return false;
    }
    if reset.sent { repeated == 0 && is_idempotent(x) } else { repeated < STALE }
}

fn is_idempotent(x: &Exchange<'_>) -> bool {
    matches!(x.heads.request.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
}

/// What a retry leaves out: tried hosts, and the priorities that were tried often enough.
#[derive(Default)]
struct Avoided {
    hosts: Vec<HostId>,
    /// Of the attempts since the last time that every priority had been left out.
    attempted: Vec<u32>,
    priorities: Vec<u32>,
}

impl Avoided {
    /// An attempt on `host` has failed.
    fn note(&mut self, x: &Exchange<'_>, plan: &Plan<'_>, host: &tulle_balance::Host, retrying: &Retrying<'_>) {
        self.hosts.push(host.id);
        let Some(every) = retrying.as_ref().and_then(|(policy, _)| policy.leave_priorities_after) else { return };
        let of_cluster = || plan.target.upstream.balancer.borrow().priority_of(host.id);
        self.attempted.extend(plan.group.as_ref().map_or_else(of_cluster, |group| Some(group.level)));
        if !self.attempted.len().is_multiple_of(every as usize) {
            return;
        }
        self.priorities.extend_from_slice(&self.attempted);
        let others = match &plan.group {
            Some(group) => stand_in::has_others(x.worker, &group.target, &self.priorities),
            None => plan.target.upstream.balancer.borrow().has_others(&self.priorities),
        };
        if !others {
            // All have been tried: begin again with the first.
            self.attempted.clear();
            self.priorities.clear();
        }
    }
}

/// Where the next attempt of a cluster of clusters goes.
fn reseat(x: &mut Exchange<'_>, plan: &mut Plan<'_>, tried: &mut Avoided) {
    let Some(group) = &mut plan.group else { return };
    let ask = Ask { attempt: x.record.attempts, without: &tried.priorities };
    let found = stand_in::seat(x.worker, &group.target, ask);
    (group.only, group.level) = found.as_ref().map_or((None, 0), |seat| (seat.only, seat.level));
    let target = found.map_or_else(|| group.target.clone(), |seat| seat.target);
    if !Rc::ptr_eq(&target, &plan.target) {
        // Hosts are known by numbers of their own cluster's.
        tried.hosts.clear();
        plan.target = target;
        x.record.target = Some(plan.target.clone());
    }
}

fn pick(
    x: &Exchange<'_>,
    plan: &Plan<'_>,
    tried: &mut Avoided,
    retrying: &Retrying<'_>,
) -> Result<Rc<tulle_balance::Host>, Reply> {
    let again = retrying.as_ref().filter(|_| x.record.attempts > 1).map(|(policy, _)| *policy);
    let avoid = again.filter(|policy| policy.avoid_previous_hosts || !policy.avoid_labels.is_empty());
    let affinity = session::of(x).filter(|_| again.is_none());
    let by_header = plan.named_host(&x.heads.request);
    let named = affinity.and_then(|affinity| affinity.named.as_ref()).or(by_header.as_ref());
    let context = PickContext {
        hash: plan.hash,
        subset: &plan.subset,
        tried: if avoid.is_some_and(|policy| policy.avoid_previous_hosts) { &tried.hosts } else { &[] },
        unwanted: avoid.map_or(&[], |policy| &policy.avoid_labels),
        attempts: avoid.map_or(0, |policy| policy.host_selection_attempts),
        without: if plan.group.is_some() { &[] } else { &tried.priorities },
        only: plan.group.as_ref().and_then(|group| group.only),
        named: named.filter(|_| again.is_none()),
        strict: affinity.is_some_and(Affinity::is_strict),
    };
    let picked = plan.target.upstream.pick(&context, &mut x.worker.rng.borrow_mut());
    picked.map_err(|why| {
        x.worker.metrics.sheet.inc(plan.target.metrics.stats.upstream_cx_none_healthy);
        numbered(x, plan, affinity.map_or_else(Reply::no_healthy_upstream, |affinity| affinity.refused(why)))
    })
}

/// An answer of the router's own tells how many attempts there were, where answers do.
fn numbered(x: &Exchange<'_>, plan: &Plan<'_>, mut reply: Reply) -> Reply {
    if plan.selected.host.include_attempt_count.in_response {
        let count = x.record.attempts.to_string();
        reply.headers.push((b"x-envoy-attempt-count".to_vec(), count.into_bytes()));
    }
    reply
}

fn count_attempt(x: &mut Exchange<'_>, plan: &Plan<'_>) {
    let stats = &plan.target.metrics.stats;
    x.worker.metrics.sheet.inc(stats.upstream_rq_total);
    if x.record.attempts > 1 {
        x.worker.metrics.sheet.inc(stats.upstream_rq_retry);
    }
    if plan.selected.host.include_attempt_count.in_request {
        let text = x.record.attempts.to_string();
        x.heads.request.headers.set(b"x-envoy-attempt-count", text.as_bytes());
    }
}

/// A retry tells whether the try before it took too long, where that is asked for.
fn tell_timeout(x: &mut Exchange<'_>, plan: &Plan<'_>, result: &Tried) {
    if plan.selected.host.include_is_timeout {
        let late = match result {
            Tried::Late(_) => true,
            Tried::Reset(reset) => matches!(reset.reason, ResetReason::PerTryTimeout),
            Tried::Answered(_) | Tried::Overtaken(_) => false,
        };
        let value: &[u8] = if late { b"true" } else { b"false" };
        x.heads.request.headers.set(b"x-envoy-is-timeout-retry", value);
    }
}

/// What the attempt was, in the retry policy's terms.
pub fn outcome(x: &Exchange<'_>, result: &Tried, (policy, state): (&RetryPolicy, &RetryState)) -> Outcome {
    match result {
        Tried::Reset(reset) => Outcome::Reset { reason: reset.reason, request_sent: reset.sent },
        Tried::Late(_) => Outcome::Reset { reason: ResetReason::PerTryTimeout, request_sent: true },
        Tried::Answered(_) | Tried::Overtaken(_) => {
            response_outcome(&x.heads.response, (policy, state), x.worker.clock.wall())
        }
    }
}

/// What a response is, in the retry policy's terms.
pub fn response_outcome(
    response: &ResponseHead,
    (policy, state): (&RetryPolicy, &RetryState),
    wall: UnixNanos,
) -> Outcome {
    let (status, headers) = (response.status, &response.headers);
    let limited = policy.rate_limited.as_ref();
    let grpc_status = headers.known(Known::GrpcStatus).and_then(super::number);
    let failed = status >= 400 || grpc_status.is_some_and(|code| code != 0);
    Outcome::Response {
        status,
        grpc_status,
        come_back_in: limited.and_then(|limited| limited.asked(headers, wall)),
        retriable_header: state.has_retriable_header(policy, headers),
        rate_limited: headers.contains(b"x-envoy-ratelimited"),
        retried: failed && headers.contains(RETRIED),
    }
}

/// What follows, with the breaker's leave when it is a retry.
fn decide(
    x: &mut Exchange<'_>,
    plan: &Plan<'_>,
    retrying: &mut Retrying<'_>,
    result: &Tried,
    upload: &Upload,
) -> (Decision, Option<Admission>) {
    let Some((policy, state)) = retrying else { return (Decision::Final, None) };
    if !upload.can_repeat() || plan.begun {
        return (Decision::Final, None);
    }
    let outcome = outcome(x, result, (policy, &*state));
    let stats = &plan.target.metrics.stats;
    let (now, rng) = (x.worker.now(), &mut *x.worker.rng.borrow_mut());
    let decision = match result {
        // Whatever the conditions are, as in Envoy: nothing has failed yet.
        Tried::Late(_) => state.again(policy, &outcome, now, rng),
        _ => state.after(policy, &outcome, now, rng),
    };
    match decision {
        Decision::RetryAt(_) => match plan.target.upstream.admit_retry(plan.action.priority) {
            Ok(admission) if within_budget(x, plan) => (decision, Some(admission)),
            _ => {
                x.worker.metrics.sheet.inc(stats.upstream_rq_retry_overflow);
                x.record.flags.insert(ResponseFlags::UPSTREAM_OVERFLOW);
                x.record.retried = tells_retried(plan);
                (Decision::Final, None)
            }
        },
        Decision::LimitExceeded => {
            x.worker.metrics.sheet.inc(stats.upstream_rq_retry_limit_exceeded);
            x.record.retried = tells_retried(plan);
            (decision, None)
        }
        Decision::Final => (decision, None),
    }
}

/// Where a cluster has a retry budget of its own, callers are told when it is used up: of several hops that would all
/// retry the one nearest to the failure does.
fn tells_retried(plan: &Plan<'_>) -> bool {
    plan.target.upstream.config_ref().own.as_ref().is_some_and(|own| own.retry_rate.is_some())
}

fn within_budget(x: &Exchange<'_>, plan: &Plan<'_>) -> bool {
    plan.target.guard().is_none_or(|guard| guard.may_retry(x.worker.now()))
}

/// Waits before a retry, unless the client leaves or the time is up; `Some` when a try that was left running is answered.
async fn pause(
    x: &mut Exchange<'_>,
    plan: &mut Plan<'_>,
    down: &mut Side,
    at: tulle_core::Nanos,
) -> Result<Option<usize>, Failed> {
    let due = Instant::now() + (at - x.worker.now());
    plan.try_ends = None;
    let deadline = plan.due();
    let waited = std::future::poll_fn(|cx| {
        if deadline.is_some_and(|d| d <= due) && x.alarm.poll(cx, deadline).is_ready() {
            let reply = if plan.has_ended() { Reply::stream_ended(true) } else { Reply::request_timeout() };
            return std::task::Poll::Ready(Err(Failed::from(reply)));
        }
        if x.alarm.poll(cx, Some(due)).is_ready() {
            return std::task::Poll::Ready(Ok(None));
        }
        if let std::task::Poll::Ready(at) = hedge::poll(cx, x, plan) {
            return std::task::Poll::Ready(Ok(Some(at)));
        }
        if down.read_ended() && down.poll_gone(cx).is_ready() {
            return std::task::Poll::Ready(Err(Failed::Broken));
        }
        std::task::Poll::Pending
    })
    .await;
    if matches!(waited, Err(Failed::Broken)) {
        return Err(attempt::client_left(x, down));
    }
    waited
}

/// Tells outlier detection and the statistics how the host did.
pub fn report(x: &Exchange<'_>, plan: &Plan<'_>, host: &tulle_balance::Host, result: &Tried) {
    use tulle_balance::outlier::HostResult;
    let stats = &plan.target.metrics.stats;
    let sheet = &x.worker.metrics.sheet;
    let told = match result {
        Tried::Late(_) => {
            sheet.inc(stats.upstream_rq_per_try_timeout);
            HostResult::Timeout
        }
        Tried::Answered(_) | Tried::Overtaken(_) => {
            withdraw(x, plan, host);
            if let (Some(begun), Some(answered)) =
                (x.record.at(TimePoint::UpstreamTxStart), x.record.at(TimePoint::UpstreamRxStart))
            {
                plan.target.upstream.observe(host, answered - begun);
            }
            let grpc = x.heads.response.headers.known(Known::GrpcStatus).filter(|_| x.record.grpc);
            HostResult::Status(grpc.and_then(super::number).map_or(x.heads.response.status, http_of_grpc))
        }
        Tried::Reset(reset) => match reset.reason {
            ResetReason::Overflow => {
                sheet.inc(stats.upstream_rq_pending_overflow);
                return;
            }
            ResetReason::ConnectFailure => {
                sheet.inc(stats.upstream_cx_connect_fail);
                HostResult::LocalOriginFailure
            }
            ResetReason::PerTryTimeout => {
                sheet.inc(stats.upstream_rq_per_try_timeout);
                HostResult::Timeout
            }
            ResetReason::GlobalTimeout => {
                sheet.inc(stats.upstream_rq_timeout);
                HostResult::Timeout
            }
            _ => {
                sheet.inc(stats.upstream_rq_rx_reset);
                HostResult::LocalOriginFailure
            }
        },
    };
    plan.target.upstream.report(host.id, told, &mut x.worker.rng.borrow_mut());
}

/// There is a connection, whatever will come: this ends a row of failures of our own side. Told at once, as Envoy does, so
/// that several tries that hang at a time are a row.
pub fn connected(x: &Exchange<'_>, plan: &Plan<'_>, host: &tulle_balance::Host) {
    use tulle_balance::outlier::HostResult;
    plan.target.upstream.report(host.id, HostResult::LocalOriginSuccess, &mut x.worker.rng.borrow_mut());
}

/// A host with health checks may say that it wants no more requests (Envoy's `x-envoy-immediate-health-check-fail`).
fn withdraw(x: &Exchange<'_>, plan: &Plan<'_>, host: &tulle_balance::Host) {
    let cluster = plan.target.upstream.config_ref();
    if !cluster.health_checks.is_empty() && x.heads.response.headers.contains(b"x-envoy-immediate-health-check-fail") {
        x.worker.hosts.withdraw(cluster.name.clone(), host.endpoint.address.clone());
    }
}

pub fn reply_to(x: &mut Exchange<'_>, plan: &Plan<'_>, reset: Reset) -> Reply {
    let mut reply = match reset.reason {
        ResetReason::GlobalTimeout => Reply::request_timeout(),
        ResetReason::PerTryTimeout => Reply::per_try_timeout(reset.words),
        _ if reset.words == Some(attempt::TRY_ENDED) => Reply::try_ended(),
        _ => Reply::reset(&reset, x.record.attempts > 1),
    };
    x.record.transport_failure = reset.transport_failure;
    if x.record.retried {
        reply.headers.push((RETRIED.to_vec(), b"true".to_vec()));
    }
    numbered(x, plan, reply)
}
