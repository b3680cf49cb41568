//! Forwarding: the head is changed for the upstream, hosts are tried until one answers, and its answer is delivered.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tulle_balance::{HostId, PickContext};
use tulle_connect::Admission;
use tulle_core::{Address, ResponseFlags, Str};
use tulle_http::{Known, Side, Tunnel};
use tulle_policy::{Decision, Outcome, ResetReason, RetryPolicy, RetryState, Timeouts};
use tulle_route::{Forward, Selected};
use tulle_telemetry::TimePoint;

use super::attempt::{self, Answered, Reset, Tried};
use super::guarded::{Due, Entry, Keeping};
use super::reply::Reply;
use super::session::{self, Affinity};
use super::upload::{Keep, Upload};
use super::{
    Ending, Exchange, Failed, LastOnConnection, answer_routed, deliver, guarded, mirror, outgoing, redirect, tunnel,
};
use crate::worker::Target;
use crate::worker::alarm::earlier;
use crate::worker::dynamic::Named;

/// Tells a caller that retries are used up on the way to the failure.
pub const RETRIED: &[u8] = b"x-tulle-retried";

/// What is fixed for all attempts of a request.
pub struct Plan<'c> {
    pub target: Rc<Target>,
    pub action: &'c Forward,
    pub selected: Selected<'c>,
    pub timeouts: Timeouts,
    pub idle: Option<Duration>,
    pub hash: Option<u64>,
    pub subset: Box<[(Str, Str)]>,
    /// When the whole response must have been received; set once the request has been.
    pub deadline: Option<Instant>,
    /// When the stream must have ended, whatever is still missing.
    pub ends: Option<Instant>,
    /// The deadline that travels with the request.
    pub due_by: Option<Due>,
    /// Where the answer is kept for when the destination fails.
    pub keeping: Option<Box<Keeping>>,
    /// What the endpoint gets to see.
    pub call: Call,
    /// An interim response has gone to the client: it is the upstream's, so nothing is tried again, as in Envoy.
    pub begun: bool,
}

/// What of a request reaches the endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// The request.
    Whole,
    /// CONNECT ends here: only the tunnel's bytes.
    Payload,
}

impl Plan<'_> {
    /// The next moment at which time is up.
    pub fn due(&self) -> Option<Instant> {
        earlier(self.deadline, self.ends)
    }

    /// The endpoint that the request asks for, where the cluster lets it (`override_host`).
    fn named_host(&self, request: &tulle_http::RequestHead) -> Option<Address> {
        let config = self.target.upstream.config_ref();
        let value = config.lb.override_headers.iter().find_map(|name| request.headers.get(name.as_bytes()))?;
        let first = std::str::from_utf8(value).ok()?.split(',').next()?.trim();
        first.parse().ok().map(Address::Ip)
    }

    pub fn has_ended(&self) -> bool {
        self.ends.is_some_and(|at| at <= Instant::now())
    }
}

pub fn stream_limit(x: &Exchange<'_>, action: &Forward) -> Option<Duration> {
    action.timeouts.stream_limit(x.hcm.timeouts.max_stream_duration, &x.heads.request.headers)
}

/// When a request that began a moment ago must have ended.
fn stream_end(x: &Exchange<'_>, action: &Forward) -> Option<Instant> {
    let limit = stream_limit(x, action)?;
    let passed = x.worker.now() - x.record.start;
    Some(Instant::now() + limit.saturating_sub(passed))
}

pub async fn forward(
    x: &mut Exchange<'_>,
    down: &mut Side,
    selected: &Selected<'_>,
    action: &Forward,
) -> Result<Ending, Failed> {
    let name = selected.cluster(&x.heads.request).ok_or_else(|| Reply::no_cluster(action.cluster_not_found_status))?;
    let mut target = x.worker.target(name).ok_or_else(|| Reply::no_cluster(action.cluster_not_found_status))?;
    let mut passed = match guarded::enter(x, &target) {
        Entry::Go(passed) => passed,
        Entry::Elsewhere(other) => {
            target = other;
            None
        }
        Entry::Answer(reply) => {
            x.record.cluster = Some(target.upstream.config_ref().name.clone());
            return answer_routed(x, down, selected, reply).await;
        }
    };
    x.record.cluster = Some(target.upstream.config_ref().name.clone());
    if target.is_dynamic() {
        target = Box::pin(named_host(x, &target)).await?;
    }
    x.record.target = Some(target.clone());
    if let Some(share) = target.upstream.drops(|| x.worker.random()) {
        return Err(Reply::dropped(share, outgoing::envoy_headers(x)).into());
    }
    if !target.is_settled() {
        Box::pin(target.settled()).await;
    }
    let retry = action.retry.as_ref().or(selected.host.retry.as_ref());
    let timeouts = Timeouts::resolve(&action.timeouts, retry, &x.heads.request.headers);
    let due_by = guarded::due(x, &target, &timeouts)?;
    let mut plan = Plan {
        keeping: guarded::keeping(x, passed.as_ref()),
        target,
        action,
        selected: *selected,
        timeouts,
        idle: action.timeouts.idle.unwrap_or(x.hcm.timeouts.stream_idle),
        hash: tulle_route::hash_of(action, &x.heads.request, Some(x.client.peer.ip())),
        subset: subset(selected, action),
        deadline: None,
        ends: earlier(stream_end(x, action), due_by.and_then(Due::end)),
        due_by,
        call: if x.heads.request.tunnel == Tunnel::Connect && action.ends_connect() {
            Call::Payload
        } else {
            Call::Whole
        },
        begun: false,
    };
    let mut retrying = retry.map(|policy| (policy, RetryState::for_request(policy, &x.heads.request)));
    let possible = retrying.as_ref().is_some_and(|(_, state)| state.possible());
    let mut upload = begin_upload(x, down, possible || action.internal_redirects.is_some())?;
    outgoing::change_head(x, &plan);
    if let Some(mirrored) = mirror::begin(x, &plan) {
        upload.mirror(mirrored);
    }
    let answered = attempts(x, down, &mut plan, &mut retrying, &mut upload).await;
    x.record.request_bytes = upload.bytes;
    guarded::leave(x, &mut passed, &answered);
    let answered = answered.map_err(|failed| guarded::reword(&plan, failed))?;
    if redirect::follow(x, &plan, &upload) {
        deliver::discard(x, answered, &upload);
        x.upload = Some(redirect::body(x, upload));
        return Err(Failed::Redirected);
    }
    if x.heads.request.tunnel != Tunnel::No {
        if tunnel::accepted(x, &answered.up) {
            return tunnel::tunnel(x, down, &plan, answered).await;
        }
        // What the client sent behind its request was meant for the tunnel; nobody may read it as a request.
        x.last = LastOnConnection::Yes;
        // Nor may another request meet an upstream that takes its connection for a tunnel all the same.
        x.heads.response.close = true;
    }
    deliver::deliver(x, down, &mut plan, answered, upload).await
}

/// The target for the host that the request names.
async fn named_host(x: &mut Exchange<'_>, target: &Target) -> Result<Rc<Target>, Failed> {
    let cluster = target.upstream.config();
    let named = Named::of_authority(x.heads.request.authority(), &cluster);
    let named = named.ok_or_else(|| Reply::bad_request("invalid_authority"))?;
    let found = x.worker.dynamic.target(x.worker, &cluster, named).await;
    found.map_err(|why| Failed::from(Reply::unreachable(why)))
}

/// Looks at the body's beginning, so that nothing of a malformed request reaches an upstream.
fn begin_upload(x: &mut Exchange<'_>, down: &mut Side, repeatable: bool) -> Result<Upload, Failed> {
    let early = x.upload.take();
    if early.is_none() && (x.heads.request.tunnel != Tunnel::No || down.read_ended()) {
        return Ok(Upload::none());
    }
    let keep = if repeatable { Keep::UpTo(x.client.listener.buffer_limit as usize) } else { Keep::No };
    let mut upload = early.map_or_else(|| Upload::new(keep), |early| early.keeping(keep));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    upload.look_ahead(&mut cx, down).map_err(|broken| attempt::client_broke(x, down, broken))?;
    if x.heads.request.expect_continue && !upload.read_all() {
        match down {
            Side::H1(conn) => conn.queue_raw(b"HTTP/1.1 100 Continue\r\n\r\n"),
            Side::H2(stream) => stream.go_on().map_err(|broken| attempt::client_broke(x, down, broken))?,
        }
    }
    Ok(upload)
}

/// The labels that the endpoint must have: the route's, overridden by the weighted arm's.
fn subset(selected: &Selected<'_>, action: &Forward) -> Box<[(Str, Str)]> {
    let arm: &[(Str, Str)] = selected.arm.map_or(&[], |arm| &arm.subset);
    if arm.is_empty() {
        return action.subset.clone();
    }
    let mut merged = arm.to_vec();
    merged.extend(action.subset.iter().filter(|(key, _)| !arm.iter().any(|(k, _)| k == key)).cloned());
    merged.sort();
    merged.into()
}

type Retrying<'p> = Option<(&'p RetryPolicy, RetryState)>;

/// Tries hosts until there is an answer to deliver.
async fn attempts(
    x: &mut Exchange<'_>,
    down: &mut Side,
    plan: &mut Plan<'_>,
    retrying: &mut Retrying<'_>,
    upload: &mut Upload,
) -> Result<Answered, Failed> {
    let mut tried = Avoided::default();
    let mut repeated = 0;
    // Counts against the breaker for as long as the retry runs.
    let mut counted: Option<Admission> = None;
    loop {
        x.record.attempts += 1;
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
        report(x, plan, &host, &result);
        drop(counted.take());
        let decision;
        (decision, counted) = decide(x, plan, retrying, &result, upload);
        match (decision, result) {
            (Decision::RetryAt(at), result) => {
                if let Tried::Answered(answered) = result {
                    deliver::discard(x, answered, upload);
                }
                tried.note(plan, &host, retrying);
                pause(x, plan, down, at).await?;
                upload.rewind();
            }
            (decision, Tried::Answered(answered)) => {
                if decision == Decision::LimitExceeded {
                    x.record.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                }
                return Ok(answered);
            }
            (decision, Tried::Reset(reset)) => {
                if decision == Decision::LimitExceeded {
                    x.record.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                }
                return Err(reply_to(x, reset).into());
            }
        }
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
    fn note(&mut self, plan: &Plan<'_>, host: &tulle_balance::Host, retrying: &Retrying<'_>) {
        self.hosts.push(host.id);
        let Some(every) = retrying.as_ref().and_then(|(policy, _)| policy.leave_priorities_after) else { return };
        let balancer = plan.target.upstream.balancer.borrow();
        self.attempted.extend(balancer.priority_of(host.id));
        if !self.attempted.len().is_multiple_of(every as usize) {
            return;
        }
        self.priorities.extend_from_slice(&self.attempted);
        if !balancer.has_others(&self.priorities) {
            // All have been tried: begin again with the first.
            self.attempted.clear();
            self.priorities.clear();
        }
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
        without: &tried.priorities,
        named: named.filter(|_| again.is_none()),
        strict: affinity.is_some_and(Affinity::is_strict),
    };
    let picked = plan.target.upstream.pick(&context, &mut x.worker.rng.borrow_mut());
    picked.map_err(|why| {
        x.worker.metrics.sheet.inc(plan.target.metrics.stats.upstream_cx_none_healthy);
        affinity.map_or_else(Reply::no_healthy_upstream, |affinity| affinity.refused(why))
    })
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

/// What the attempt was, in the retry policy's terms.
fn outcome(x: &Exchange<'_>, result: &Tried, (policy, state): (&RetryPolicy, &RetryState)) -> Outcome {
    match result {
        Tried::Reset(reset) => Outcome::Reset { reason: reset.reason, request_sent: reset.sent },
        Tried::Answered(_) => {
            let (status, headers) = (x.heads.response.status, &x.heads.response.headers);
            let limited = policy.rate_limited.as_ref();
            let grpc_status = headers.known(Known::GrpcStatus).and_then(super::number);
            let failed = status >= 400 || grpc_status.is_some_and(|code| code != 0);
            Outcome::Response {
                status,
                grpc_status,
                come_back_in: limited.and_then(|limited| limited.asked(headers, x.worker.clock.wall())),
                retriable_header: state.has_retriable_header(policy, headers),
                rate_limited: headers.contains(b"x-envoy-ratelimited"),
                retried: failed && headers.contains(RETRIED),
            }
        }
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
    let decision = state.after(policy, &outcome, x.worker.now(), &mut x.worker.rng.borrow_mut());
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

/// Waits before a retry, unless the client leaves or the time is up.
async fn pause(x: &mut Exchange<'_>, plan: &Plan<'_>, down: &mut Side, at: tulle_core::Nanos) -> Result<(), Failed> {
    let due = Instant::now() + (at - x.worker.now());
    let deadline = plan.due();
    let waited = std::future::poll_fn(|cx| {
        if deadline.is_some_and(|d| d <= due) && x.alarm.poll(cx, deadline).is_ready() {
            let reply = if plan.has_ended() { Reply::stream_ended(true) } else { Reply::request_timeout() };
            return std::task::Poll::Ready(Err(Failed::from(reply)));
        }
        if x.alarm.poll(cx, Some(due)).is_ready() {
            return std::task::Poll::Ready(Ok(()));
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
fn report(x: &Exchange<'_>, plan: &Plan<'_>, host: &tulle_balance::Host, result: &Tried) {
    use tulle_balance::outlier::HostResult;
    let stats = &plan.target.metrics.stats;
    let sheet = &x.worker.metrics.sheet;
    let told = match result {
        Tried::Answered(_) => {
            withdraw(x, plan, host);
            if let (Some(begun), Some(answered)) =
                (x.record.at(TimePoint::UpstreamTxStart), x.record.at(TimePoint::UpstreamRxStart))
            {
                plan.target.upstream.observe(host, answered - begun);
            }
            HostResult::Status(x.heads.response.status)
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

/// A host with health checks may say that it wants no more requests (Envoy's `x-envoy-immediate-health-check-fail`).
fn withdraw(x: &Exchange<'_>, plan: &Plan<'_>, host: &tulle_balance::Host) {
    let cluster = plan.target.upstream.config_ref();
    if !cluster.health_checks.is_empty() && x.heads.response.headers.contains(b"x-envoy-immediate-health-check-fail") {
        x.worker.hosts.withdraw(cluster.name.clone(), host.endpoint.address.clone());
    }
}

fn reply_to(x: &mut Exchange<'_>, reset: Reset) -> Reply {
    let mut reply = match reset.reason {
        ResetReason::GlobalTimeout => Reply::request_timeout(),
        ResetReason::PerTryTimeout => Reply::per_try_timeout(),
        _ => Reply::reset(&reset, x.record.attempts > 1),
    };
    x.record.transport_failure = reset.transport_failure;
    if x.record.retried {
        reply.headers.push((RETRIED.to_vec(), b"true".to_vec()));
    }
    reply
}
