//! Fault injection (`envoy.extensions.filters.http.fault.v3.HTTPFault`): whom it concerns, how long to wait, what to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tulle_core::{FractionalPercent, RequestView, Str};

use crate::matcher::HeaderMatcher;

/// A fault filter's settings.
#[derive(Clone, Debug)]
pub struct Fault {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
    pub throughput: Option<Throughput>,
    /// Only requests to this cluster.
    pub upstream_cluster: Option<Str>,
    /// Only requests that all of these match.
    pub headers: Box<[HeaderMatcher]>,
    /// No more requests than this are delayed or aborted at once; `None` for no limit.
    pub max_active: Option<Arc<ActiveLimit>>,
    /// Only requests whose `x-envoy-downstream-service-node` is one of these; empty for any.
    pub downstream_nodes: Box<[Str]>,
}

/// A number of things that may go on at once, for all workers.
#[derive(Debug)]
pub struct ActiveLimit {
    most: u32,
    now: AtomicU32,
}

impl ActiveLimit {
    pub fn new(most: u32) -> Self {
        ActiveLimit { most, now: AtomicU32::new(0) }
    }

    /// Counts one more until the guard is dropped; `None` at the limit.
    pub fn enter(self: &Arc<Self>) -> Option<Active> {
        let one_more = |now| (now < self.most).then_some(now + 1);
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Active(self.clone()))
    }
}

/// One of the things that go on.
#[derive(Debug)]
pub struct Active(Arc<ActiveLimit>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    pub length: DelayLength,
    pub share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayLength {
    Fixed(Duration),
    /// Milliseconds in `x-envoy-fault-delay-request`.
    ByHeader,
}

/// How many of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub most: FractionalPercent,
    /// What the numerators in requests are numerators of: 100, 10 000 or 1 000 000.
    pub denominator: u32,
}

impl From<FractionalPercent> for Share {
    fn from(most: FractionalPercent) -> Share {
        Share { most, denominator: 100 }
    }
}

impl Share {
    fn hits(self, random: u64) -> bool {
        self.most.hits(random)
    }
}

/// How fast response bodies may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// KiB/s, at least 1; `None`: as many as `x-envoy-fault-throughput-response` says.
    pub fixed: Option<u64>,
    pub share: Share,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    pub with: AbortWith,
    pub share: Share,
    /// Instead of Envoy's `fault filter abort`.
    pub body: Option<Str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortWith {
    /// 200 to 599.
    Http(u16),
    Grpc(u32),
    /// The status in `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request`.
    ByHeader,
}

/// What an aborted request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    Http(u16),
    /// With HTTP status 200, also for callers that do not speak gRPC.
    Grpc(u32),
}

impl Fault {
    /// Whether the filter looks at this request at all; `cluster` is where its route leads.
    pub fn concerns<R: RequestView + ?Sized>(&self, request: &R, cluster: Option<&str>) -> bool {
        let node = || request.header("x-envoy-downstream-service-node");
        self.upstream_cluster.as_deref().is_none_or(|wanted| cluster == Some(wanted))
            && (self.downstream_nodes.is_empty()
                || node().is_some_and(|node| self.downstream_nodes.iter().any(|wanted| wanted.as_bytes() == node)))
            && self.headers.iter().all(|matcher| matcher.matches(request))
    }

    /// How long to hold the request; `random` are 64 uniform bits. A delay of nothing is none.
    pub fn delay<R: RequestView + ?Sized>(&self, request: &R, random: u64) -> Option<Duration> {
        let delay = self.delay.as_ref()?;
        let (length, share) = match delay.length {
            DelayLength::Fixed(length) => (length, delay.share),
            DelayLength::ByHeader => {
                let millis = number(request, "x-envoy-fault-delay-request")?;
                let share = share_by_header(request, "x-envoy-fault-delay-request-percentage", delay.share);
                (Duration::from_millis(millis), share)
            }
        };
        (share.hits(random) && !length.is_zero()).then_some(length)
    }

    /// The most bytes of the response's body in a second; `random` are 64 uniform bits.
    pub fn throughput<R: RequestView + ?Sized>(&self, request: &R, random: u64) -> Option<u64> {
        let throughput = self.throughput.as_ref()?;
        let (rate, share) = match throughput.fixed {
            Some(rate) => (rate, throughput.share),
            None => {
                let rate = number(request, "x-envoy-fault-throughput-response").filter(|rate| *rate > 0)?;
                let name = "x-envoy-fault-throughput-response-percentage";
                (rate, share_by_header(request, name, throughput.share))
            }
        };
        share.hits(random).then(|| rate.saturating_mul(1024))
    }

    /// What to answer instead of forwarding; `random` are 64 uniform bits, other ones than the delay's.
    pub fn abort<R: RequestView + ?Sized>(&self, request: &R, random: u64) -> Option<Aborted> {
        let abort = self.abort.as_ref()?;
        let (answer, share) = match abort.with {
            AbortWith::Http(status) => (Aborted::Http(status), abort.share),
            AbortWith::Grpc(status) => (Aborted::Grpc(status), abort.share),
            AbortWith::ByHeader => {
                let share = share_by_header(request, "x-envoy-fault-abort-request-percentage", abort.share);
                (abort_by_header(request)?, share)
            }
        };
        share.hits(random).then_some(answer)
    }
}

fn abort_by_header<R: RequestView + ?Sized>(request: &R) -> Option<Aborted> {
    let http = number(request, "x-envoy-fault-abort-request").and_then(|status| u16::try_from(status).ok());
    if let Some(status) = http.filter(|status| (200..600).contains(status)) {
        return Some(Aborted::Http(status));
    }
    let grpc = number(request, "x-envoy-fault-abort-grpc-request").and_then(|status| u32::try_from(status).ok());
    grpc.map(Aborted::Grpc)
}

/// A header may lower the configured share, never raise it. Its unit is the configured denominator.
fn share_by_header<R: RequestView + ?Sized>(request: &R, name: &str, share: Share) -> Share {
    match number(request, name).and_then(|numerator| u32::try_from(numerator).ok()) {
        Some(numerator) => {
            Share { most: share.most.min(FractionalPercent::new(numerator, share.denominator)), ..share }
        }
        None => share,
    }
}

fn number<R: RequestView + ?Sized>(request: &R, name: &str) -> Option<u64> {
    std::str::from_utf8(request.header(name)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_at_once() {
        let limit = Arc::new(ActiveLimit::new(2));
        let (one, two) = (limit.enter(), limit.enter());
        assert!(one.is_some() && two.is_some() && limit.enter().is_none());
        drop(one);
        assert!(limit.enter().is_some());
        assert!(Arc::new(ActiveLimit::new(0)).enter().is_none());
    }
}
