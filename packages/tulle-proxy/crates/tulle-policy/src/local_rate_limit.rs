//! The local rate limit (`envoy.extensions.filters.http.local_ratelimit.v3`): buckets by descriptor, and one for the rest.

use std::net::IpAddr;
use std::time::Duration;

use tulle_core::{FractionalPercent, Nanos, RequestView, Str};

use crate::matcher::HeaderMatcher;
use crate::shared_bucket::SharedBucket;

/// One filter's settings and the state of its buckets, which all workers share.
#[derive(Debug)]
pub struct LocalRateLimit {
    /// Answered when there is no token; 429 by default.
    pub status: u16,
    /// For requests without a descriptor of their own, and (by `default_bucket`) for the others too.
    pub bucket: Option<SharedBucket>,
    pub default_bucket: DefaultBucket,
    /// Share of the requests that take tokens.
    pub enabled: FractionalPercent,
    /// Share of those without a token that are refused.
    pub enforced: FractionalPercent,
    pub descriptors: Box<[DescriptorLimit]>,
    /// Which descriptors a request has.
    pub slots: Box<[RateLimitSlot]>,
    /// Added to the response of a refused request.
    pub response_headers: Box<[(Str, Str)]>,
    /// Added to a request that would have been refused, were the limit enforced.
    pub request_headers: Box<[(Str, Str)]>,
    pub report: Report,
    pub grpc: GrpcRefusal,
}

/// Whether a request with a descriptor takes from the default bucket too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultBucket {
    /// Envoy's default.
    Always,
    WithoutDescriptor,
}

/// Whether responses say how much is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Nothing,
    /// `x-ratelimit-limit`, `-remaining` and `-reset` (draft-ietf-httpapi-ratelimit-headers-03).
    XRateLimit,
}

/// The gRPC status of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcRefusal {
    /// 14: what 429 stands for.
    Unavailable,
    /// 8.
    ResourceExhausted,
}

/// A bucket for one descriptor.
#[derive(Debug)]
pub struct DescriptorLimit {
    pub entries: Box<[(Str, Str)]>,
    pub bucket: SharedBucket,
}

/// One entry of `rate_limits`: which descriptor a request yields.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitSlot {
    pub actions: Box<[RateLimitAction]>,
}

/// One action of a rate-limit entry: one entry of the descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum RateLimitAction {
    DestinationCluster,
    RequestHeader { name: Str, key: Str, when_absent: WhenAbsent },
    RemoteAddress,
    Generic { key: Str, value: Str },
    HeaderValueMatch { key: Str, value: Str, expected: bool, headers: Box<[HeaderMatcher]> },
}

/// What an absent header does to the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAbsent {
    /// There is none.
    NoDescriptor,
    /// It goes without this entry.
    SkipEntry,
}

/// What a request's descriptors are made from.
pub struct Source<'a, R: ?Sized> {
    pub request: &'a R,
    pub cluster: Option<&'a str>,
    pub remote: IpAddr,
}

/// The outcome for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// The filter is off for this request.
    Unlimited,
    Granted(Quota),
    /// Without a token, but let through: the limit is not enforced.
    NotEnforced(Quota),
    Refused(Quota),
}

/// What is left of the bucket that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub limit: u32,
    pub remaining: u32,
    pub reset: Duration,
}

impl LocalRateLimit {
    /// Takes a token for the request from every bucket that counts it; `random` are 64 uniform bits.
    pub fn take<R: RequestView + ?Sized>(&self, source: &Source<'_, R>, now: Nanos, random: u64) -> Allowance {
        if !self.enabled.hits(random) {
            return Allowance::Unlimited;
        }
        let described =
            self.descriptors.iter().filter(|limit| self.slots.iter().any(|slot| slot.yields(limit, source)));
        let mut last = None;
        for limit in described {
            last = Some(&limit.bucket);
            if !limit.bucket.take(1, now) {
                return self.refused(&limit.bucket, now, random);
            }
        }
        if let Some(bucket) = &self.bucket
            && (last.is_none() || self.default_bucket == DefaultBucket::Always)
        {
            if !bucket.take(1, now) {
                return self.refused(bucket, now, random);
            }
            last = last.or(Some(bucket));
        }
        last.map_or(Allowance::Unlimited, |bucket| Allowance::Granted(Quota::of(bucket, now)))
    }

    fn refused(&self, bucket: &SharedBucket, now: Nanos, random: u64) -> Allowance {
        let quota = Quota::of(bucket, now);
        // Other bits than those that drew whether the filter is on.
        if self.enforced.hits(random.rotate_left(32)) {
            Allowance::Refused(quota)
        } else {
            Allowance::NotEnforced(quota)
        }
    }
}

impl Quota {
    fn of(bucket: &SharedBucket, now: Nanos) -> Quota {
        Quota { limit: bucket.config().max_tokens, remaining: bucket.remaining(now), reset: bucket.next_token(now) }
    }
}

impl RateLimitSlot {
    /// Whether the request's descriptor by this slot is the one that `limit` is for.
    fn yields<R: RequestView + ?Sized>(&self, limit: &DescriptorLimit, source: &Source<'_, R>) -> bool {
        let mut wanted = limit.entries.iter();
        for action in &self.actions {
            match action.compare(source, wanted.as_slice().first()) {
                Compared::Same => {
                    wanted.next();
                }
                Compared::Skipped => {}
                Compared::Other => return false,
            }
        }
        wanted.as_slice().is_empty()
    }
}

/// An action's entry beside the one that is wanted at its place.
enum Compared {
    Same,
    Other,
    Skipped,
}

impl RateLimitAction {
    fn compare<R: RequestView + ?Sized>(&self, source: &Source<'_, R>, wanted: Option<&(Str, Str)>) -> Compared {
        let same = |key: &str, value: &[u8]| match wanted {
            Some((k, v)) if &**k == key && v.as_bytes() == value => Compared::Same,
            _ => Compared::Other,
        };
        match self {
            RateLimitAction::DestinationCluster => match source.cluster {
                Some(cluster) => same("destination_cluster", cluster.as_bytes()),
                None => Compared::Other,
            },
            RateLimitAction::RequestHeader { name, key, when_absent } => match source.request.field(name) {
                Some(value) => same(key, value),
                None if *when_absent == WhenAbsent::SkipEntry => Compared::Skipped,
                None => Compared::Other,
            },
            RateLimitAction::RemoteAddress => {
                same("remote_address", source.remote.to_canonical().to_string().as_bytes())
            }
            RateLimitAction::Generic { key, value } => same(key, value.as_bytes()),
            RateLimitAction::HeaderValueMatch { key, value, expected, headers } => {
                let all = headers.iter().all(|matcher| matcher.matches(source.request));
                if all == *expected { same(key, value.as_bytes()) } else { Compared::Other }
            }
        }
    }
}
