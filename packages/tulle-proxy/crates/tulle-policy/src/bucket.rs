//! A token bucket for local rate limits.

use std::time::Duration;

use tulle_core::Nanos;

/// `envoy.type.v3.TokenBucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucketConfig {
    pub max_tokens: u32,
    pub tokens_per_fill: u32,
    pub fill_interval: Duration,
}

/// The bucket's state; starts full.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    tokens: u32,
    filled_at: Nanos,
}
