//! The HTTP filters between routing and forwarding: what each decides of a request, and what it adds to the response.
//!
//! A chain that holds only the router is passed without a look at the request. Nothing here waits: a fault's delay is
//! handed to the caller as a step, so that the exchange's future does not grow by it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tulle_config::HttpFilter;
use tulle_config::filters::AdaptiveConcurrency;
use tulle_core::{Nanos, ResponseFlags};
use tulle_http::Side;
use tulle_policy::cors::CorsRequest;
use tulle_policy::descriptors::{Slots, Source};
use tulle_policy::fault::{Aborted, Active};
use tulle_policy::local_rate_limit::{Allowance, GrpcRefusal, Quota, Report, RetryAfter};
use tulle_policy::rbac::{Facts, METADATA};
use tulle_policy::{CorsPolicy, Fault, FilterOverride, LocalRateLimit, Rbac};
use tulle_route::{FilterMutations, RouteAction, Selected};
use tulle_token::RemoteKeys;

use super::bandwidth::{self, Bandwidth};
use super::mutations;
use super::on_demand;
use super::record::Record;
use super::reply::Reply;
use super::session::{self, Affinity};
use super::tokens::{self, Patience};
use super::{Exchange, Failed, authorize, remote_limit};
use crate::serve::access;
use crate::worker::clock::Clock;

/// How far the chain has been passed.
#[derive(Default)]
pub struct Progress {
    next: usize,
    /// The fault filter that is next has had its delay, or the token filter has waited for keys.
    held: bool,
}

/// What is to be done next.
pub enum Step {
    /// The chain is passed: forward the request.
    Through,
    /// Wait so long, and come back.
    Hold(Duration),
    /// Wait for these keys, and come back.
    Keys(Keys),
    /// Wait for this cluster.
    Discover(on_demand::Wanted),
    /// Ask an external authorizer.
    Authorize(authorize::Asking),
    /// Ask a rate-limit service.
    Count(remote_limit::Asking),
    /// Read the body, which may have so many bytes.
    Buffer(u32),
    /// Find the route anew: what decides on it has changed.
    Reroute,
    Answer(Reply),
}

/// Keys that have not been fetched yet.
pub struct Keys(pub Vec<Arc<RemoteKeys>>);

/// What filters add to the response, whoever gives it.
#[derive(Default)]
pub struct Edits {
    cors: Option<CorsAnswer>,
    quota: Option<Quota>,
    /// The limit that refused the request.
    refused_by: Option<Arc<LocalRateLimit>>,
    come_back: Option<Duration>,
    /// Fields that an authorizer wants in the response.
    pub set: Vec<(String, Vec<u8>)>,
    pub append: Vec<(String, Vec<u8>)>,
    /// The most bytes of the body in a second.
    pub throughput: Option<u64>,
    /// What filters change in the response's head, in the order of the chain.
    pub changes: Vec<Vec<Arc<FilterMutations>>>,
    /// Holds both bodies to a rate.
    pub bandwidth: Option<Bandwidth>,
    /// Counts as a fault while the request runs.
    fault: Option<Active>,
    running: Option<Running>,
    pub session: Option<Affinity>,
}

/// A request that adaptive concurrency let through.
struct Running {
    settings: Arc<AdaptiveConcurrency>,
    clock: Rc<Clock>,
    since: Nanos,
    latency: Option<Duration>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.settings.gradient.end(self.latency, self.clock.now());
    }
}

struct CorsAnswer {
    policy: Arc<CorsPolicy>,
    origin: Vec<u8>,
    kind: CorsRequest,
}

/// Passes the request through the filters that are left.
#[inline]
pub fn advance(x: &mut Exchange<'_>, selected: Option<&Selected<'_>>, progress: &mut Progress) -> Step {
    if x.hcm.filters.len() == 1 { Step::Through } else { pass(x, selected, progress) }
}

fn pass(x: &mut Exchange<'_>, selected: Option<&Selected<'_>>, progress: &mut Progress) -> Step {
    let hcm = x.hcm;
    while let Some(filter) = hcm.filters.get(progress.next) {
        match ask(x, filter, selected, progress) {
            // The fault filter is asked again after its delay, the token filter when there are keys.
            Some(Step::Hold(length)) => return Step::Hold(length),
            Some(Step::Keys(keys)) => {
                progress.held = true;
                return Step::Keys(keys);
            }
            Some(step) => {
                *progress = Progress { next: progress.next + 1, held: false };
                return step;
            }
            None => *progress = Progress { next: progress.next + 1, held: false },
        }
    }
    Step::Through
}

/// What one filter wants done; nothing when it lets the request pass.
fn ask(
    x: &mut Exchange<'_>,
    filter: &HttpFilter,
    selected: Option<&Selected<'_>>,
    progress: &mut Progress,
) -> Option<Step> {
    let said = |name: &str| selected.and_then(|selected| selected.filter_override(name));
    match filter {
        HttpFilter::Router(_) => None,
        HttpFilter::Rbac(own) => match said(&own.name) {
            Some(FilterOverride::Off) => None,
            Some(FilterOverride::Rbac(settings)) => rbac(x, settings),
            _ => rbac(x, &own.settings),
        },
        HttpFilter::Fault(own) => match said(&own.name) {
            Some(FilterOverride::Off) => None,
            Some(FilterOverride::Fault(settings)) => fault(x, settings, selected, progress),
            _ => fault(x, &own.settings, selected, progress),
        },
        HttpFilter::LocalRateLimit(own) => match said(&own.name) {
            Some(FilterOverride::Off) => None,
            Some(FilterOverride::LocalRateLimit(settings)) => rate_limit(x, settings, selected),
            _ => rate_limit(x, &own.settings, selected),
        },
        HttpFilter::RateLimiter(own) => match said(&own.name) {
            Some(FilterOverride::Off) => None,
            said => remote_limit::begin(x, &own.settings, said, selected),
        },
        HttpFilter::Tokens(own) => match said(&own.name) {
            Some(FilterOverride::Off) => None,
            said => {
                let patience = if progress.held { Patience::Waited } else { Patience::Waits };
                tokens::check(x, &own.settings, said, patience)
            }
        },
        HttpFilter::Authorizer(own) => match said(&own.name) {
            Some(FilterOverride::Off) => None,
            said => authorize::begin(x, &own.settings, said),
        },
        HttpFilter::AdaptiveConcurrency(own) => match said(&own.name) {
            Some(FilterOverride::Off) => None,
            _ => concurrency(x, &own.settings),
        },
        HttpFilter::Session(own) => {
            match said(&own.name) {
                Some(FilterOverride::Off) => {}
                Some(FilterOverride::Session(settings)) => session::begin(x, settings),
                _ => session::begin(x, &own.settings),
            }
            None
        }
        HttpFilter::Bandwidth(own) => {
            match said(&own.name) {
                Some(FilterOverride::Off) => {}
                Some(FilterOverride::Bandwidth(settings)) => bandwidth::begin(x, settings),
                _ => bandwidth::begin(x, &own.settings),
            }
            None
        }
        HttpFilter::Mutations(own) => {
            mutations::begin(x, own, selected);
            None
        }
        HttpFilter::Buffer(own) => match said(&own.name) {
            Some(FilterOverride::Off) => None,
            Some(FilterOverride::Buffer(most)) => Some(Step::Buffer(*most)),
            _ => Some(Step::Buffer(*own.settings)),
        },
        HttpFilter::Dormant(own) => match said(&own.name) {
            None | Some(FilterOverride::Off) => None,
            Some(_) => ask(x, &own.filter, selected, progress),
        },
        HttpFilter::OnDemand(own) => {
            let patience = match said(&own.name) {
                Some(FilterOverride::Off) => None,
                Some(FilterOverride::OnDemand(patience)) => *patience,
                _ => own.settings.patience,
            };
            patience.and_then(|patience| on_demand::wanted(x, selected, patience)).map(Step::Discover)
        }
        HttpFilter::Discovered(own) => {
            let config = x.worker.config();
            match config.extensions.get(&own.name).or(own.default.as_ref()) {
                Some(found) => found.filter.as_ref().and_then(|filter| ask(x, filter, selected, progress)),
                None => Some(Step::Answer(Reply::no_filter_config())),
            }
        }
        HttpFilter::Cors(name) => match said(name) {
            // Envoy leaves requests alone that it answers or redirects itself.
            Some(FilterOverride::Cors(policy)) if forwards(selected) => cors(x, policy),
            _ => None,
        },
    }
}

pub fn forwards(selected: Option<&Selected<'_>>) -> bool {
    selected.is_some_and(|selected| matches!(selected.action(), RouteAction::Forward(_)))
}

fn rbac(x: &mut Exchange<'_>, settings: &Rbac) -> Option<Step> {
    let metadata = x.record.metadata.as_deref();
    let facts = Facts { remote: client_ip(x), metadata, ..access::facts(x.client) };
    let (sheet, stats) = (&x.worker.metrics.sheet, &x.client.http);
    let mut shadow = None;
    if let Some(rules) = &settings.shadow {
        let verdict = rules.decide(&facts, &x.heads.request);
        x.worker.metrics.shadow(stats, settings, verdict);
        shadow = Some(Arc::new(settings.shadow_metadata(verdict, METADATA)));
    }
    let verdict = settings.enforced.as_ref().map(|rules| rules.decide(&facts, &x.heads.request));
    if let Some(shadow) = shadow {
        x.record.learn(&shadow);
    }
    let verdict = verdict?;
    if !verdict.is_denied() {
        sheet.inc(stats.rbac_allowed);
        return None;
    }
    sheet.inc(stats.rbac_denied);
    let reply = Reply::new(403, "RBAC: access denied", "", ResponseFlags::NONE);
    Some(Step::Answer(Reply { details: Cow::Owned(verdict.details()), ..reply }))
}

pub fn client_ip(x: &Exchange<'_>) -> IpAddr {
    x.record.remote.unwrap_or(x.client.peer.ip())
}

fn fault(
    x: &mut Exchange<'_>,
    settings: &Fault,
    selected: Option<&Selected<'_>>,
    progress: &mut Progress,
) -> Option<Step> {
    let request = &x.heads.request;
    let cluster = selected.and_then(|selected| selected.cluster(request));
    if !settings.concerns(request, cluster) {
        return None;
    }
    let (sheet, stats) = (&x.worker.metrics.sheet, &x.client.http);
    if !progress.held {
        progress.held = true;
        if let Some(rate) = settings.throughput(request, x.worker.random())
            && counts_as_fault(&mut x.record, settings)
        {
            sheet.inc(stats.fault_response_rl_injected);
            x.record.edits.get_or_insert_default().throughput = Some(rate);
        }
        if let Some(length) = settings.delay(request, x.worker.random())
            && counts_as_fault(&mut x.record, settings)
        {
            sheet.inc(stats.fault_delays_injected);
            x.record.flags.insert(ResponseFlags::DELAY_INJECTED);
            return Some(Step::Hold(length));
        }
    }
    let aborted = settings.abort(request, x.worker.random())?;
    if !counts_as_fault(&mut x.record, settings) {
        return None;
    }
    sheet.inc(stats.fault_aborts_injected);
    let (status, grpc_status) = match aborted {
        Aborted::Http(status) => (status, None),
        Aborted::Grpc(status) => (200, Some(status)),
    };
    let mut reply = Reply::new(status, "fault filter abort", "fault_filter_abort", ResponseFlags::FAULT_INJECTED);
    reply.grpc_status = grpc_status;
    if let Some(body) = settings.abort.as_ref().and_then(|abort| abort.body.as_ref()) {
        reply.body = Cow::Owned(body.as_bytes().to_vec());
    }
    Some(Step::Answer(reply))
}

/// Whether one more fault is allowed; it counts until the request is over.
fn counts_as_fault(record: &mut Record, settings: &Fault) -> bool {
    let Some(limit) = &settings.max_active else { return true };
    let edits = record.edits.get_or_insert_default();
    if edits.fault.is_none() {
        edits.fault = limit.enter();
    }
    edits.fault.is_some()
}

fn concurrency(x: &mut Exchange<'_>, settings: &Arc<AdaptiveConcurrency>) -> Option<Step> {
    let now = x.worker.now();
    if settings.gradient.admit(now) {
        let running = Running { settings: settings.clone(), clock: x.worker.clock.clone(), since: now, latency: None };
        x.record.edits.get_or_insert_default().running = Some(running);
        return None;
    }
    let flags = ResponseFlags::NONE;
    Some(Step::Answer(Reply::new(settings.status, "reached concurrency limit", "reached_concurrency_limit", flags)))
}

/// The response has been sent: what took how long is told to whom it concerns.
pub fn completed(x: &mut Exchange<'_>) {
    let now = x.worker.now();
    if let Some(edits) = &mut x.record.edits
        && let Some(running) = &mut edits.running
    {
        running.latency = Some(now - running.since);
    }
}

fn rate_limit(x: &mut Exchange<'_>, settings: &Arc<LocalRateLimit>, selected: Option<&Selected<'_>>) -> Option<Step> {
    let request = &x.heads.request;
    let cluster = selected.and_then(|selected| selected.cluster(request));
    let metadata = x.record.metadata.as_deref();
    let source = Source { request, cluster, own_cluster: &x.worker.own_cluster, remote: client_ip(x), metadata };
    let allowance = settings.take(&source, slots(selected), x.worker.now(), x.worker.random());
    let (sheet, stats) = (&x.worker.metrics.sheet, &x.client.http);
    let quota = match allowance {
        Allowance::Unlimited => return None,
        Allowance::Granted(quota) => {
            sheet.inc(stats.http_local_rate_limit_ok);
            quota
        }
        Allowance::NotEnforced(quota) => {
            sheet.inc(stats.http_local_rate_limit_rate_limited);
            for (name, value) in &settings.request_headers {
                x.heads.request.headers.push(name.as_bytes(), value.as_bytes());
            }
            quota
        }
        Allowance::Refused(quota) => {
            sheet.inc(stats.http_local_rate_limit_rate_limited);
            sheet.inc(stats.http_local_rate_limit_enforced);
            quota
        }
    };
    let edits = x.record.edits.get_or_insert_default();
    if settings.report == Report::XRateLimit {
        edits.quota = Some(quota);
    }
    if !matches!(allowance, Allowance::Refused(_)) {
        return None;
    }
    edits.refused_by = Some(settings.clone());
    edits.come_back = (settings.retry_after == RetryAfter::Said).then_some(quota.reset);
    let flags = ResponseFlags::RATE_LIMITED;
    let mut reply = Reply::new(settings.status, "local_rate_limited", "local_rate_limited", flags);
    reply.grpc_status = match settings.grpc {
        GrpcRefusal::Unavailable => None,
        GrpcRefusal::ResourceExhausted => Some(8),
    };
    Some(Step::Answer(reply))
}

/// The rate-limit slots of the request's route and virtual host.
pub fn slots<'r>(selected: Option<&Selected<'r>>) -> Slots<'r> {
    match selected.map(|selected| (&selected.route.action, selected.host)) {
        Some((RouteAction::Forward(action), host)) => {
            Slots { route: &action.rate_limits, host: &host.rate_limits, mode: action.host_rate_limits }
        }
        _ => Slots::default(),
    }
}

fn cors(x: &mut Exchange<'_>, policy: &Arc<CorsPolicy>) -> Option<Step> {
    let kind = policy.classify(&x.heads.request, x.worker.random());
    let (sheet, stats) = (&x.worker.metrics.sheet, &x.client.http);
    match kind {
        CorsRequest::Plain => return None,
        CorsRequest::Foreign | CorsRequest::ForeignPreflight => sheet.inc(stats.cors_origin_invalid),
        CorsRequest::Allowed | CorsRequest::Preflight => sheet.inc(stats.cors_origin_valid),
    }
    if kind == CorsRequest::Foreign {
        return None;
    }
    let origin = x.heads.request.headers.get(b"origin").unwrap_or_default().to_vec();
    x.record.edits.get_or_insert_default().cors = Some(CorsAnswer { policy: policy.clone(), origin, kind });
    let answered = matches!(kind, CorsRequest::Preflight | CorsRequest::ForeignPreflight);
    answered.then(|| Step::Answer(Reply::new(200, "", "cors_response", ResponseFlags::NONE)))
}

/// Waits out a delay, unless the client leaves.
pub async fn hold(x: &mut Exchange<'_>, down: &mut Side, length: Duration) -> Result<(), Failed> {
    let due = Instant::now() + length;
    let waited = std::future::poll_fn(|cx| {
        if x.alarm.poll(cx, Some(due)).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if down.read_ended() && down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failed::Broken));
        }
        Poll::Pending
    })
    .await;
    if waited.is_err() {
        return Err(super::attempt::client_left(x, down));
    }
    waited
}

/// Waits for keys, unless the client leaves.
pub async fn fetched(x: &mut Exchange<'_>, down: &mut Side, keys: Keys) -> Result<(), Failed> {
    let worker = x.worker.clone();
    tokio::select! {
        () = worker.keys.settled(&keys.0) => Ok(()),
        left = gone(x, down) => Err(left),
    }
}

/// Ends when the client does.
pub async fn gone(x: &mut Exchange<'_>, down: &mut Side) -> Failed {
    left(down).await;
    super::attempt::client_left(x, down)
}

/// The same, without a word on it.
pub async fn left(down: &mut Side) {
    std::future::poll_fn(|cx| if down.read_ended() { down.poll_gone(cx) } else { Poll::Pending }).await;
}

/// Adds to the response's head what the filters that saw the request have to say.
pub fn edit_response(x: &mut Exchange<'_>) {
    let Some(edits) = &x.record.edits else { return };
    let heads = &mut *x.heads;
    let headers = &mut heads.response.headers;
    if let Some(cors) = &edits.cors {
        if cors.kind != CorsRequest::ForeignPreflight {
            cors.policy.tell(&cors.origin, headers);
        }
        if cors.kind != CorsRequest::Allowed {
            cors.policy.permit(&heads.request, headers);
        }
    }
    if let Some(affinity) = &edits.session {
        affinity.tell(x.record.host.as_deref(), x.worker.clock.wall(), headers);
    }
    for (name, value) in &edits.set {
        headers.set(name.as_bytes(), value);
    }
    for (name, value) in &edits.append {
        headers.push(name.as_bytes(), value);
    }
    if let Some(limit) = &edits.refused_by {
        for (name, value) in &limit.response_headers {
            headers.push(name.as_bytes(), value.as_bytes());
        }
    }
    if let Some(wait) = edits.come_back {
        headers.set(b"retry-after", (wait.as_secs_f64().ceil() as u64).to_string().as_bytes());
    }
    if let Some(quota) = &edits.quota {
        let seconds = quota.reset.as_secs_f64().ceil() as u64;
        let numbers: [(&[u8], u64); 3] = [
            (b"x-ratelimit-limit", quota.limit.into()),
            (b"x-ratelimit-remaining", quota.remaining.into()),
            (b"x-ratelimit-reset", seconds),
        ];
        for (name, number) in numbers {
            headers.set(name, number.to_string().as_bytes());
        }
    }
}
