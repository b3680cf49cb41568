//! The global rate limit (`envoy.extensions.filters.http.ratelimit.v3.RateLimit`): who counts, and what of the answer holds.

use tulle_core::{FractionalPercent, Str};
use tulle_policy::descriptors::RateLimitSlot;
use tulle_policy::local_rate_limit::{GrpcRefusal, Report, RetryAfter};

use crate::grpc::GrpcService;

#[derive(Clone, Debug)]
pub struct RateLimiter {
    pub service: GrpcService,
    pub domain: Str,
    /// Of the route's and virtual host's slots only those of this stage count.
    pub stage: u32,
    /// The filter's own; when there are any, those of routes and virtual hosts do not count.
    pub slots: Box<[RateLimitSlot]>,
    pub concerns: Concerns,
    /// Share of the requests that are counted.
    pub enabled: FractionalPercent,
    /// Share of those beyond the limit that are refused.
    pub enforced: FractionalPercent,
    /// Answered beyond the limit; 429 by default.
    pub status: u16,
    /// Share of the requests that are refused when nobody can be asked; the others pass on, to the local limit where
    /// the chain has one.
    pub denied_on_failure: FractionalPercent,
    /// Answered to those; 500 by default.
    pub status_on_failure: u16,
    /// Added to a refusal.
    pub response_headers: Box<[(Str, Str)]>,
    pub report: Report,
    pub retry_after: RetryAfter,
    pub mark: Mark,
    pub grpc: GrpcRefusal,
    /// Where the service's metadata is left for later filters and logs.
    pub metadata: Str,
}

/// Which requests are counted, by `x-envoy-internal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerns {
    Both,
    Internal,
    External,
}

impl Concerns {
    pub fn takes(self, internal: bool) -> bool {
        match self {
            Concerns::Both => true,
            Concerns::Internal => internal,
            Concerns::External => !internal,
        }
    }
}

/// Whether a response beyond the limit says so in `x-envoy-ratelimited`, which callers do not retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Said,
    Unsaid,
}
