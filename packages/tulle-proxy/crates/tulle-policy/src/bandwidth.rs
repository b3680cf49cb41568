//! How fast bodies may pass (`envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit`): all that one configuration
//! concerns share its bytes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tulle_core::{Nanos, Str};

/// A filter's settings, of its own or of a route.
#[derive(Debug)]
pub struct BandwidthLimit {
    pub requests: bool,
    pub responses: bool,
    /// `None` limits nothing.
    pub rate: Option<Arc<SharedRate>>,
    /// In response trailers it is told how long bodies took; their names begin with this and a dash, if it is not empty.
    pub told: Option<Str>,
}

/// A rate for everything that passes, in all workers.
#[derive(Debug)]
pub struct SharedRate {
    bytes_per_second: u64,
    /// How often something may pass; at least 1 ms.
    pub interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When `allowed` was found; `None` before the first byte.
    since: Option<Nanos>,
    allowed: f64,
}

impl SharedRate {
    pub fn new(bytes_per_second: u64, interval: Duration) -> SharedRate {
        let interval = interval.max(Duration::from_millis(1));
        SharedRate { bytes_per_second, interval, state: Mutex::default() }
    }

    /// Takes as many of `wanted` bytes as may pass now: as in Envoy a second's worth at first, and what is not used is
    /// kept for a second.
    pub fn take(&self, wanted: u64, now: Nanos) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = self.bytes_per_second as f64;
        let passed = match state.since {
            Some(since) => now.since(since),
            None => Duration::from_secs(1),
        };
        state.allowed = (state.allowed + passed.as_secs_f64() * rate).min(rate);
        state.since = Some(now);
        let taken = (state.allowed as u64).min(wanted);
        state.allowed -= taken as f64;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_at_first_and_at_most() {
        let rate = SharedRate::new(1000, Duration::from_millis(50));
        let at = |millis: u64| Nanos::ZERO + Duration::from_millis(millis);
        let taken: Vec<u64> = [0, 0, 10, 60, 9000, 9000].map(|millis| rate.take(2000, at(millis))).into();
        assert_eq!(taken, [1000, 0, 10, 50, 1000, 0]);
        assert_eq!(rate.take(3, at(9100)), 3);
    }
}
