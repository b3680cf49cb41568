//! Forwarding: the head is changed for the upstream, hosts are tried until one answers, and its answer is delivered.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tulle_balance::load::Tier;
use tulle_config::Discovery;
use tulle_config::cluster::OriginalDst;
use tulle_core::{Address, Str, xxh64};
use tulle_http::{Side, Tunnel};
use tulle_policy::{RetryState, Timeouts};
use tulle_route::hashing::Hashed;
use tulle_route::{Forward, HashPolicy, Selected};

use super::guarded::{Due, Entry, Keeping};
use super::hedge::Waiting;
use super::reply::Reply;
use super::upload::{Keep, Upload};
use super::{
    Ending, Exchange, Failed, LastOnConnection, answer_routed, attempt, bandwidth, deliver, filters, guarded, hedge,
    mirror, outgoing, redirect, tries, tunnel,
};
use crate::worker::Target;
use crate::worker::alarm::earlier;
use crate::worker::dynamic::Named;
use crate::worker::stand_in::{self as seat, Ask};

/// What is fixed for all attempts of a request.
pub struct Plan<'c> {
    pub target: Rc<Target>,
    pub action: &'c Forward,
    pub selected: Selected<'c>,
    pub timeouts: Timeouts,
    pub idle: Option<Duration>,
    pub hash: Option<u64>,
    /// Cookies made for the hash, as the client is told of them.
    pub cookies: Vec<String>,
    pub subset: Box<[(Str, Str)]>,
    /// The cluster of clusters that `target` stands in for.
    pub group: Option<Box<Group>>,
    /// When the whole response must have been received; set once the request has been.
    pub deadline: Option<Instant>,
    /// When the stream must have ended, whatever is still missing.
    pub ends: Option<Instant>,
    /// When the stream to the endpoint must have ended.
    pub try_ends: Option<Instant>,
    /// The deadline that travels with the request.
    pub due_by: Option<Due>,
    /// Where the answer is kept for when the destination fails.
    pub keeping: Option<Box<Keeping>>,
    /// What the endpoint gets to see.
    pub call: Call,
    /// An interim response has gone to the client: it is the upstream's, so nothing is tried again, as in Envoy.
    pub begun: bool,
    /// A try that takes too long is left running beside the next.
    pub hedged: bool,
    /// Such tries.
    pub waiting: Vec<Waiting<'c>>,
}

/// A cluster whose hosts are those of others.
pub struct Group {
    pub target: Rc<Target>,
    /// What it has chosen for this attempt.
    pub only: Option<(u32, Tier)>,
    /// The same among all its priorities.
    pub level: u32,
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
        earlier(earlier(self.deadline, self.ends), self.try_ends)
    }

    pub fn try_has_ended(&self) -> bool {
        self.try_ends.is_some_and(|at| at <= Instant::now())
    }

    /// The endpoint that the request asks for, where the cluster lets it (`override_host`).
    pub fn named_host(&self, request: &tulle_http::RequestHead) -> Option<Address> {
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
    let policies = target.upstream.config_ref().policies.clone();
    let policies = policies.as_deref();
    let mut group = None;
    if target.by_call() {
        (target, group) = Box::pin(stand_in(x, target)).await?;
    }
    x.record.target = Some(target.clone());
    if let Some(share) = target.upstream.drops(|| x.worker.random()) {
        return Err(Reply::dropped(share, outgoing::envoy_headers(x)).into());
    }
    if !target.is_settled() {
        Box::pin(target.settled()).await;
    }
    let retry = policies.and_then(|own| own.retry.as_ref());
    let retry = retry.or(action.retry.as_ref()).or(selected.host.retry.as_ref());
    let timeouts = Timeouts::resolve(&action.timeouts, retry, &x.heads.request.headers);
    let due_by = guarded::due(x, &target, &timeouts)?;
    let own_hash = policies.map_or(&[][..], |own| &own.hash);
    let (hash, cookies) = hash(x, if own_hash.is_empty() { &action.hash } else { own_hash }, &target);
    let mut plan = Plan {
        keeping: guarded::keeping(x, passed.as_ref()),
        target,
        action,
        selected: *selected,
        timeouts,
        idle: action.timeouts.idle.unwrap_or(x.hcm.timeouts.stream_idle),
        hash,
        cookies,
        subset: subset(selected, action),
        group,
        deadline: None,
        ends: earlier(stream_end(x, action), due_by.and_then(Due::end)),
        try_ends: None,
        due_by,
        call: if x.heads.request.tunnel == Tunnel::Connect && action.ends_connect() {
            Call::Payload
        } else {
            Call::Whole
        },
        begun: false,
        hedged: hedge::wanted(x, selected, action),
        waiting: Vec::new(),
    };
    let mut retrying = retry.map(|policy| (policy, RetryState::for_request(policy, &x.heads.request)));
    let possible = retrying.as_ref().is_some_and(|(_, state)| state.possible());
    let repeatable = possible || action.internal_redirects.is_some();
    let kept =
        if repeatable { Keep::UpTo(selected.kept_body(x.client.listener.buffer_limit as usize)) } else { Keep::No };
    let mut upload = begin_upload(x, down, kept)?;
    outgoing::change_head(x, &plan);
    if let Some(mirrored) = mirror::begin(x, &plan, policies.map_or(&[][..], |own| &own.mirrors)) {
        upload.mirror(mirrored);
    }
    let answered = tries::attempts(x, down, &mut plan, &mut retrying, &mut upload).await;
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

/// The target that has the hosts for this request, where its cluster has none of its own.
async fn stand_in(x: &mut Exchange<'_>, target: Rc<Target>) -> Result<(Rc<Target>, Option<Box<Group>>), Failed> {
    let cluster = target.upstream.config();
    match &cluster.discovery {
        Discovery::OriginalDst(settings) => match original(x, settings) {
            Some(address) => {
                let found = x.worker.dynamic.at(x.worker, &cluster, address);
                Ok((found.map_err(|why| Failed::from(Reply::unreachable(why)))?, None))
            }
            // It has no host, and so answers.
            None => Ok((target, None)),
        },
        Discovery::Aggregate(_) | Discovery::Composite(_) => {
            seat::settled(x.worker, &target).await;
            let found = seat::seat(x.worker, &target, Ask { attempt: 1, without: &[] });
            let (only, level) = found.as_ref().map_or((None, 0), |seat| (seat.only, seat.level));
            let chosen = found.map_or_else(|| target.clone(), |seat| seat.target);
            Ok((chosen, Some(Box::new(Group { target, only, level }))))
        }
        _ => Ok((named_host(x, &target).await?, None)),
    }
}

/// Where the request says that it was going, else where its connection was.
fn original(x: &Exchange<'_>, settings: &OriginalDst) -> Option<SocketAddr> {
    let told = settings.header.as_ref().and_then(|name| x.heads.request.headers.get(name.as_bytes()));
    let told = told.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let mut address: SocketAddr = told.or_else(|| x.client.restored.then_some(x.client.local))?;
    if let Some(port) = settings.port {
        address.set_port(port);
    }
    Some(address)
}

/// The target for the host that the request names.
async fn named_host(x: &mut Exchange<'_>, target: &Target) -> Result<Rc<Target>, Failed> {
    let cluster = target.upstream.config();
    let named = Named::of_authority(x.heads.request.authority(), &cluster);
    let named = named.ok_or_else(|| Reply::bad_request("invalid_authority"))?;
    let found = x.worker.dynamic.target(x.worker, &cluster, named).await;
    found.map_err(|why| Failed::from(Reply::unreachable(why)))
}

/// The hash of the request where its cluster goes by one, and the cookies that were made for it.
fn hash(x: &Exchange<'_>, policies: &[HashPolicy], target: &Target) -> (Option<u64>, Vec<String>) {
    let mut cookies = Vec::new();
    if policies.is_empty() || !target.upstream.config_ref().lb.policy.is_hashed() {
        return (None, cookies);
    }
    let hashed = Hashed { request: &x.heads.request, source: Some(filters::client_ip(x)) };
    let hash = tulle_route::hash_of(policies, &hashed, &mut |cookie| {
        // One value for each connection, so that requests of one client at a time get the same.
        let ends = format!("{}{}", x.client.peer, x.client.local);
        let value = format!("{:016x}", xxh64(ends.as_bytes(), 0));
        cookies.push(cookie.written(&value));
        Some(value)
    });
    (hash, cookies)
}

/// Looks at the body's beginning, so that nothing of a malformed request reaches an upstream.
fn begin_upload(x: &mut Exchange<'_>, down: &mut Side, keep: Keep) -> Result<Upload, Failed> {
    let early = x.upload.take();
    if early.is_none() && (x.heads.request.tunnel != Tunnel::No || down.read_ended()) {
        return Ok(Upload::none());
    }
    let mut upload = early.map_or_else(|| Upload::new(keep), |early| early.keeping(keep));
    upload = upload.throttled(bandwidth::of_request(x));
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
