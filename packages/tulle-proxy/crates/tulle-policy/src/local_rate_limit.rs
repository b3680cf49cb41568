//! The local rate limit (`envoy.extensions.filters.http.local_ratelimit.v3`): buckets by descriptor, and one for the rest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tulle_core::{FractionalPercent, Nanos, RequestView, Str};

use crate::bucket::TokenBucketConfig;
use crate::descriptors::{Descriptor, HostSlots, RateLimitSlot, Slots, Source};
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
    /// Which descriptors a request has; when empty, those of the route and its virtual host say it.
    pub slots: Box<[RateLimitSlot]>,
    /// Of the route's slots only those of this stage count.
    pub stage: u32,
    pub host_slots: HostSlots,
    /// Added to the response of a refused request.
    pub response_headers: Box<[(Str, Str)]>,
    /// Added to a request that would have been refused, were the limit enforced.
    pub request_headers: Box<[(Str, Str)]>,
    pub report: Report,
    pub retry_after: RetryAfter,
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

/// Whether a refusal says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    Unsaid,
    /// `retry-after`, in seconds.
    Said,
}

/// The gRPC status of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcRefusal {
    /// 14: what 429 stands for.
    Unavailable,
    /// 8.
    ResourceExhausted,
}

/// Buckets for the descriptors of one shape.
#[derive(Debug)]
pub struct DescriptorLimit {
    /// A value of `None` stands for any, each with a bucket of its own.
    pub entries: Box<[(Str, Option<Str>)]>,
    pub buckets: Buckets,
    pub enforcement: Enforcement,
}

/// What a descriptor's limit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    Enforced,
    /// Only counted (`shadow_mode`).
    Shadow,
}

#[derive(Debug)]
pub enum Buckets {
    One(SharedBucket),
    ByValue(ByValue),
}

/// A bucket for each combination of values; the one that was not used for longest makes room.
#[derive(Debug)]
pub struct ByValue {
    config: TokenBucketConfig,
    most: usize,
    known: Mutex<HashMap<Vec<u8>, Used>>,
}

/// A bucket, and when it was last asked.
type Used = (Arc<SharedBucket>, Nanos);

impl ByValue {
    pub fn new(config: TokenBucketConfig, most: usize) -> Self {
        ByValue { config, most: most.max(1), known: Mutex::default() }
    }

    fn bucket(&self, values: Vec<u8>, now: Nanos) -> Arc<SharedBucket> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bucket, used)) = known.get_mut(&values) {
            *used = now;
            return bucket.clone();
        }
        if known.len() >= self.most {
            let oldest = known.iter().min_by_key(|(_, (_, used))| *used).map(|(values, _)| values.clone());
            oldest.and_then(|values| known.remove(&values));
        }
        let bucket = Arc::new(SharedBucket::new(self.config));
        known.insert(values, (bucket.clone(), now));
        bucket
    }
}

impl DescriptorLimit {
    fn fits(&self, descriptor: &Descriptor<'_>) -> bool {
        let mut pairs = self.entries.iter().zip(&descriptor.entries);
        self.entries.len() == descriptor.entries.len()
            && pairs.all(|((key, value), (name, text))| {
                &**key == *name && value.as_ref().is_none_or(|value| value.as_bytes() == &**text)
            })
    }

    /// Tokens per second.
    fn fill_rate(&self) -> f64 {
        let config = match &self.buckets {
            Buckets::One(bucket) => *bucket.config(),
            Buckets::ByValue(buckets) => buckets.config,
        };
        f64::from(config.tokens_per_fill) / config.fill_interval.as_secs_f64()
    }

    /// Whether a token was there, and what is left.
    fn take(&self, descriptor: &Descriptor<'_>, now: Nanos) -> (bool, Quota) {
        let hits = descriptor.hits.unwrap_or(1);
        let take = |bucket: &SharedBucket| (bucket.take(hits, now), Quota::of(bucket, now));
        match &self.buckets {
            Buckets::One(bucket) => take(bucket),
            Buckets::ByValue(buckets) => {
                // Lengths keep values apart.
                let mut values = Vec::new();
                for (_, value) in &descriptor.entries {
                    values.extend_from_slice(&(value.len() as u32).to_le_bytes());
                    values.extend_from_slice(value);
                }
                take(&buckets.bucket(values, now))
            }
        }
    }
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
    /// Takes a token for the request from every bucket that counts it; `random` are 64 uniform bits. `slots`
    /// are those of the request's route and virtual host.
    pub fn take<R: RequestView + ?Sized>(
        &self,
        source: &Source<'_, R>,
        slots: Slots<'_>,
        now: Nanos,
        random: u64,
    ) -> Allowance {
        if !self.enabled.hits(random) {
            return Allowance::Unlimited;
        }
        let mut told = None;
        if !self.descriptors.is_empty() {
            let descriptors = self.descriptors_of(source, slots);
            let limit_of = |descriptor| self.limit_of(descriptor).map(|limit| (limit, descriptor));
            let mut limits: Vec<_> = descriptors.iter().filter_map(limit_of).collect();
            // As Envoy: what fills slowest is asked first, and told of.
            limits.sort_by(|left, right| left.0.fill_rate().total_cmp(&right.0.fill_rate()));
            for (limit, descriptor) in limits {
                let (granted, quota) = limit.take(descriptor, now);
                if !granted {
                    return self.refused(quota, limit.enforcement, random);
                }
                told = told.or(Some(quota));
            }
        }
        if let Some(bucket) = &self.bucket
            && (told.is_none() || self.default_bucket == DefaultBucket::Always)
        {
            let granted = bucket.take(1, now);
            let quota = Quota::of(bucket, now);
            if !granted {
                return self.refused(quota, Enforcement::Enforced, random);
            }
            told = told.or(Some(quota));
        }
        told.map_or(Allowance::Unlimited, Allowance::Granted)
    }

    /// The limit that counts a descriptor: one that names all values, or else one for any value.
    fn limit_of(&self, descriptor: &Descriptor<'_>) -> Option<&DescriptorLimit> {
        let mut fitting = self.descriptors.iter().filter(|limit| limit.fits(descriptor));
        let first = fitting.next()?;
        if matches!(first.buckets, Buckets::One(_)) {
            return Some(first);
        }
        Some(fitting.find(|limit| matches!(limit.buckets, Buckets::One(_))).unwrap_or(first))
    }

    fn descriptors_of<'a, R: RequestView + ?Sized>(
        &'a self,
        source: &Source<'a, R>,
        slots: Slots<'a>,
    ) -> Vec<Descriptor<'a>> {
        if !self.slots.is_empty() {
            return self.slots.iter().filter_map(|slot| slot.descriptor(source)).collect();
        }
        slots.of(self.stage, self.host_slots).filter_map(|slot| slot.descriptor(source)).collect()
    }

    fn refused(&self, quota: Quota, enforcement: Enforcement, random: u64) -> Allowance {
        // Other bits than those that drew whether the filter is on.
        if enforcement == Enforcement::Enforced && self.enforced.hits(random.rotate_left(32)) {
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
