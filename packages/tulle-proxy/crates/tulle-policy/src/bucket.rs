//! A token bucket for local rate limits.

use std::time::Duration;

use tulle_core::Nanos;

/// `envoy.type.v3.TokenBucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucketConfig {
    pub max_tokens: u32,
    pub tokens_per_fill: u32,
    /// More than zero.
    pub fill_interval: Duration,
}

/// The bucket's state; starts full.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    tokens: u32,
    filled_at: Nanos,
}

impl TokenBucket {
    pub fn new(config: &TokenBucketConfig, now: Nanos) -> Self {
        TokenBucket { tokens: config.max_tokens, filled_at: now }
    }

    /// Takes `count` tokens, or none and says no.
    pub fn take(&mut self, config: &TokenBucketConfig, count: u32, now: Nanos) -> bool {
        self.refill(config, now);
        match self.tokens.checked_sub(count) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    /// Tokens left, for `x-ratelimit-remaining`.
    pub fn remaining(&self) -> u32 {
        self.tokens
    }

    /// Time until the next fill, for `x-ratelimit-reset`.
    pub fn next_fill(&self, config: &TokenBucketConfig, now: Nanos) -> Duration {
        config.fill_interval.saturating_sub(now.since(self.filled_at))
    }

    fn refill(&mut self, config: &TokenBucketConfig, now: Nanos) {
        let interval = config.fill_interval.as_nanos().max(1) as u64;
        let fills = now.since(self.filled_at).as_nanos() as u64 / interval;
        if fills > 0 {
            // Whole intervals only, so that the rest of the running one is not lost.
            self.filled_at = Nanos(self.filled_at.0 + fills * interval);
            let added = fills.saturating_mul(u64::from(config.tokens_per_fill)).saturating_add(u64::from(self.tokens));
            self.tokens = added.min(u64::from(config.max_tokens)) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fills_by_whole_intervals_up_to_its_maximum() {
        let config = TokenBucketConfig { max_tokens: 3, tokens_per_fill: 2, fill_interval: Duration::from_secs(1) };
        let mut bucket = TokenBucket::new(&config, Nanos::ZERO);
        assert!(bucket.take(&config, 3, Nanos::ZERO));
        assert!(!bucket.take(&config, 1, Nanos::from_millis(999)));
        assert!(bucket.take(&config, 2, Nanos::from_millis(1_500)));
        assert!(!bucket.take(&config, 1, Nanos::from_millis(1_900)));
        assert_eq!(bucket.next_fill(&config, Nanos::from_millis(1_900)), Duration::from_millis(100));
        assert!(bucket.take(&config, 3, Nanos::from_secs(60)));
    }

    proptest! {
        #[test]
        fn never_grants_more_than_the_rate(steps in prop::collection::vec((0u64..2_000, 1u32..5), 1..200)) {
            let config = TokenBucketConfig { max_tokens: 10, tokens_per_fill: 3, fill_interval: Duration::from_millis(500) };
            let mut bucket = TokenBucket::new(&config, Nanos::ZERO);
            let (mut now, mut granted) = (0, 0u64);
            for (millis, count) in steps {
                now += millis;
                if bucket.take(&config, count, Nanos::from_millis(now)) {
                    granted += u64::from(count);
                }
                prop_assert!(granted <= 10 + now / 500 * 3);
            }
        }
    }
}
