//! Exponential back-off with full jitter, as Envoy's `JitteredExponentialBackOffStrategy`.

use std::time::Duration;

use tulle_core::Rng;

/// Base and maximum of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    /// Envoy's defaults: 25 ms, and ten times that.
    fn default() -> Self {
        Backoff::from_base(Duration::from_millis(25))
    }
}

impl Backoff {
    /// A back-off whose maximum is Envoy's default of ten times the base.
    pub fn from_base(base: Duration) -> Self {
        Backoff { base, max: base.saturating_mul(10) }
    }

    /// The longest wait before retry number `retry` (from 1): `base · 2^(retry − 1)`, at most `max`.
    pub fn ceiling(&self, retry: u32) -> Duration {
        let factor = 1u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }

    /// A uniform wait in `[0, ceiling)`.
    pub fn wait(&self, retry: u32, rng: &mut Rng) -> Duration {
        let ceiling = u64::try_from(self.ceiling(retry).as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.below(ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let backoff = Backoff::default();
        let ceilings: Vec<u128> = (1..8).map(|retry| backoff.ceiling(retry).as_millis()).collect();
        assert_eq!(ceilings, [25, 50, 100, 200, 250, 250, 250]);
        assert_eq!(backoff.ceiling(u32::MAX), backoff.max);
    }

    #[test]
    fn waits_are_uniform_below_the_ceiling() {
        let (backoff, mut rng) = (Backoff::default(), Rng::seeded(1));
        let waits: Vec<Duration> = (0..10_000).map(|_| backoff.wait(2, &mut rng)).collect();
        assert!(waits.iter().all(|wait| *wait < Duration::from_millis(50)));
        let mean = waits.iter().sum::<Duration>() / 10_000;
        assert!((24..=26).contains(&mean.as_millis()), "{mean:?}");
    }
}
