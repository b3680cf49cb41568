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

    /// The longest wait before retry number `retry` (from 1): `base · (2^retry − 1)`, at most `max`.
    pub fn ceiling(&self, retry: u32) -> Duration {
        let factor = 1u32.checked_shl(retry).map_or(u32::MAX, |power| power - 1);
        self.base.saturating_mul(factor.max(1)).min(self.max)
    }

    /// A uniform wait in `[0, ceiling)`.
    pub fn wait(&self, retry: u32, rng: &mut Rng) -> Duration {
        let ceiling = u64::try_from(self.ceiling(retry).as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.below(ceiling))
    }
}
