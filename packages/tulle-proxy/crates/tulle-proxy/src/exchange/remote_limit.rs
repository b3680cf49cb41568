//! The global rate limit of a request: a service counts it, and what it answers is done.
//!
//! Where it does not answer, the request passes on to the next filter, a local limit where there is one, unless
//! configuration says that it is refused.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tulle_config::RateLimiter;
use tulle_config::rate_limiter::Mark;
use tulle_core::headers::Headers as _;
use tulle_core::{Metadata, ResponseFlags};
use tulle_http::Side;
use tulle_policy::FilterOverride;
use tulle_policy::descriptors::{Descriptor, RateLimitSlot, Source};
use tulle_policy::local_rate_limit::{GrpcRefusal, Report, RetryAfter};
use tulle_policy::remote_limit::{RateLimiterOverride, come_back, x_ratelimit};
use tulle_route::Selected;
use tulle_telemetry::envoy::RateLimitStats;
use tulle_xds::limits::{self, Answer};

use super::filters::{self, Step};
use super::reply::Reply;
use super::{Exchange, Failed, grpc};
use crate::worker::Target;

/// A question to be asked.
pub struct Asking {
    limiter: Arc<RateLimiter>,
    message: Bytes,
    target: Rc<Target>,
}

/// Whether the request is to be counted: it is when it yields a descriptor and its cluster is known.
pub fn begin(
    x: &Exchange<'_>,
    limiter: &Arc<RateLimiter>,
    said: Option<&FilterOverride>,
    selected: Option<&Selected<'_>>,
) -> Option<Step> {
    let request = &x.heads.request;
    let internal = request.header("x-envoy-internal") == Some(b"true");
    if !limiter.concerns.takes(internal) || !limiter.enabled.hits(x.worker.random()) {
        return None;
    }
    let selected = selected.filter(|selected| filters::forwards(Some(*selected)))?;
    let cluster = selected.cluster(request)?;
    let target = x.worker.target(cluster)?;
    let said = match said {
        Some(FilterOverride::RateLimiter(said)) => Some(&**said),
        _ => None,
    };
    let described = x.client.described(request, x.record.metadata.as_deref());
    let source = Source {
        request: &described,
        cluster: Some(cluster),
        own_cluster: &x.worker.own_cluster,
        remote: filters::client_ip(x),
        metadata: described.metadata,
    };
    let descriptors: Vec<Descriptor<'_>> =
        slots(limiter, said, selected).filter_map(|slot| slot.descriptor(&source)).collect();
    if descriptors.is_empty() {
        return None;
    }
    let domain = said.and_then(|said| said.domain.as_ref()).unwrap_or(&limiter.domain);
    let message = limits::ask(domain, &descriptors);
    Some(Step::Count(Asking { limiter: limiter.clone(), message, target }))
}

/// The route's own settings come first, then the filter's, then what route and virtual host say to all such filters.
fn slots<'s>(
    limiter: &'s RateLimiter,
    said: Option<&'s RateLimiterOverride>,
    selected: &Selected<'s>,
) -> impl Iterator<Item = &'s RateLimitSlot> {
    let own = said.map_or(&[][..], |said| &said.slots[..]);
    let own = if own.is_empty() { &limiter.slots[..] } else { own };
    let mode = said.map(|said| said.host_slots).unwrap_or_default();
    let shared = own.is_empty().then(|| filters::slots(Some(selected)).of(limiter.stage, mode));
    own.iter().chain(shared.into_iter().flatten())
}

/// Asks, and does what is answered. `Some` is what the client gets instead of the upstream's response.
pub async fn ask(x: &mut Exchange<'_>, down: &mut Side, asking: Asking) -> Result<Option<Reply>, Failed> {
    let Asking { limiter, message, target } = asking;
    let answered = tokio::select! {
        answered = grpc::call(x.worker, &limiter.service, limits::METHOD, message) => answered.ok(),
        left = filters::gone(x, down) => return Err(left),
    };
    let stats = x.worker.metrics.rate_limits(&target);
    let answer = answered.and_then(|bytes| limits::answered(&bytes));
    Ok(match answer {
        Some(answer) => conclude(x, &limiter, answer, stats),
        None => uncounted(x, &limiter, stats),
    })
}

fn uncounted(x: &Exchange<'_>, limiter: &RateLimiter, stats: &RateLimitStats) -> Option<Reply> {
    x.worker.metrics.sheet.inc(stats.error);
    if !limiter.denied_on_failure.hits(x.worker.random()) {
        x.worker.metrics.sheet.inc(stats.failure_mode_allowed);
        return None;
    }
    let flags = ResponseFlags::RATE_LIMIT_SERVICE_ERROR;
    Some(Reply::new(limiter.status_on_failure, "", "rate_limiter_error", flags))
}

fn conclude(x: &mut Exchange<'_>, limiter: &RateLimiter, answer: Answer, stats: &RateLimitStats) -> Option<Reply> {
    x.worker.metrics.sheet.inc(if answer.over { stats.over_limit } else { stats.ok });
    if let Some(found) = &answer.metadata {
        let filters = [(limiter.metadata.clone(), found.clone())].into();
        x.record.learn(&Arc::new(Metadata { filters }));
    }
    let told = told(limiter, &answer);
    if answer.over && limiter.enforced.hits(x.worker.random()) {
        return Some(refusal(limiter, answer, told));
    }
    for (name, value) in &answer.request_headers {
        x.heads.request.headers.push(name.as_bytes(), value);
    }
    if !told.is_empty() {
        x.record.edits.get_or_insert_default().append.extend(told);
    }
    None
}

type Fields = Vec<(String, Vec<u8>)>;

/// What the client is told, whoever answers it.
fn told(limiter: &RateLimiter, answer: &Answer) -> Fields {
    let mut told: Fields = answer.response_headers.clone();
    if answer.over && limiter.mark == Mark::Said {
        told.push(("x-envoy-ratelimited".to_owned(), b"true".to_vec()));
    }
    if limiter.report == Report::XRateLimit
        && let Some([limit, remaining, reset]) = x_ratelimit(&answer.standings)
    {
        told.push(("x-ratelimit-limit".to_owned(), limit.into_bytes()));
        told.push(("x-ratelimit-remaining".to_owned(), remaining.into_bytes()));
        told.push(("x-ratelimit-reset".to_owned(), reset.into_bytes()));
    }
    told
}

fn refusal(limiter: &RateLimiter, answer: Answer, mut told: Fields) -> Reply {
    let has = |told: &Fields, name: &str| told.iter().any(|(known, _)| known == name);
    if limiter.retry_after == RetryAfter::Said
        && limiter.status == 429
        && !has(&told, "retry-after")
        && let Some(seconds) = come_back(&answer.standings)
    {
        told.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
    }
    let own = limiter.response_headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    told.extend(own);
    let flags = ResponseFlags::RATE_LIMITED;
    Reply {
        body: Cow::Owned(answer.body),
        headers: told.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
        grpc_status: match limiter.grpc {
            GrpcRefusal::Unavailable => None,
            GrpcRefusal::ResourceExhausted => Some(8),
        },
        ..Reply::new(limiter.status, "", "request_rate_limited", flags)
    }
}
