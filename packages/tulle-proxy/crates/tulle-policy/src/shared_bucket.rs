//! A token bucket that all workers take from: one number, changed by compare-and-swap.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tulle_core::Nanos;

use crate::bucket::TokenBucketConfig;

/// Fills continuously, as Envoy's does since it needs no timer: `tokens_per_fill` spread over `fill_interval`.
///
/// The number kept is the time at which the bucket was (or will be) empty; what has passed since, at the rate, is
/// what it holds.
#[derive(Debug)]
pub struct SharedBucket {
    config: TokenBucketConfig,
    /// Bits of an `f64`: seconds since the process started, negative for a full new bucket.
    empty_at: AtomicU64,
}

impl SharedBucket {
    /// Starts full.
    pub fn new(config: TokenBucketConfig) -> Self {
        SharedBucket { config, empty_at: AtomicU64::new(f64::NEG_INFINITY.to_bits()) }
    }

    pub fn config(&self) -> &TokenBucketConfig {
        &self.config
    }

    /// Takes `count` tokens, or none and says no.
    pub fn take(&self, count: u32, now: Nanos) -> bool {
        let (now, rate) = (seconds(now), self.rate());
        let mut seen = self.empty_at.load(Ordering::Relaxed);
        loop {
            let empty_at = self.earliest(f64::from_bits(seen), now);
            // A tolerance far below a token: the sums of fractions of a second are not exact.
            if (now - empty_at) * rate + 1e-6 < f64::from(count) {
                return false;
            }
            let next = (empty_at + f64::from(count) / rate).to_bits();
            match self.empty_at.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }

    /// Whole tokens left.
    pub fn remaining(&self, now: Nanos) -> u32 {
        let now = seconds(now);
        let empty_at = self.earliest(f64::from_bits(self.empty_at.load(Ordering::Relaxed)), now);
        ((now - empty_at) * self.rate() + 1e-6).max(0.0) as u32
    }

    /// Time until there is one more whole token; zero when there is one.
    pub fn next_token(&self, now: Nanos) -> Duration {
        let now = seconds(now);
        let empty_at = self.earliest(f64::from_bits(self.empty_at.load(Ordering::Relaxed)), now);
        Duration::from_secs_f64((empty_at + 1.0 / self.rate() - now).max(0.0))
    }

    /// Tokens per second.
    fn rate(&self) -> f64 {
        let interval = self.config.fill_interval.as_secs_f64().max(1e-9);
        f64::from(self.config.tokens_per_fill.max(1)) / interval
    }

    /// The bucket holds no more than its maximum however long nothing was taken.
    fn earliest(&self, empty_at: f64, now: f64) -> f64 {
        empty_at.max(now - f64::from(self.config.max_tokens) / self.rate())
    }
}

fn seconds(now: Nanos) -> f64 {
    now.0 as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(max_tokens: u32, tokens_per_fill: u32, millis: u64) -> SharedBucket {
        let fill_interval = Duration::from_millis(millis);
        SharedBucket::new(TokenBucketConfig { max_tokens, tokens_per_fill, fill_interval })
    }

    #[test]
    fn starts_full_and_fills_continuously() {
        let bucket = bucket(2, 1, 1_000);
        assert_eq!(bucket.remaining(Nanos::ZERO), 2);
        assert!(bucket.take(2, Nanos::ZERO));
        assert!(!bucket.take(1, Nanos::from_millis(999)));
        assert_eq!(bucket.next_token(Nanos::from_millis(400)).as_millis(), 600);
        assert!(bucket.take(1, Nanos::from_millis(1_000)));
        assert!(!bucket.take(1, Nanos::from_millis(1_500)));
        assert!(bucket.take(2, Nanos::from_secs(100)));
        assert!(!bucket.take(1, Nanos::from_secs(100)));
    }

    #[test]
    fn workers_together_get_what_there_is() {
        let bucket = bucket(1_000, 1, 3_600_000);
        let granted: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..500).filter(|_| bucket.take(1, Nanos::from_secs(1))).count()))
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(granted, 1_000);
    }

    proptest! {
        #[test]
        fn never_grants_more_than_the_rate(steps in prop::collection::vec((0u64..2_000, 1u32..5), 1..200)) {
            let bucket = bucket(10, 3, 500);
            let (mut now, mut granted) = (0, 0.0);
            for (millis, count) in steps {
                now += millis;
                if bucket.take(count, Nanos::from_millis(now)) {
                    granted += f64::from(count);
                }
                prop_assert!(granted <= 10.0 + now as f64 * 3.0 / 500.0 + 0.01);
            }
        }
    }
}
