//! A retry budget by rate: retries may be a share of the requests of the last seconds, and always a few a second (our own;
//! Finagle's `RetryBudget`). It bounds what retries add to the load of a destination that fails altogether.

use tulle_core::Nanos;

/// How many retries there may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryRate {
    /// Retries per hundred requests.
    pub percent: f64,
    /// Retries a second that are allowed whatever the share.
    pub min_per_second: f64,
}

impl Default for RetryRate {
    fn default() -> Self {
        RetryRate { percent: 20.0, min_per_second: 3.0 }
    }
}

/// What was not used within so many seconds is lost.
const KEPT_SECONDS: f64 = 10.0;

/// The budget's state.
#[derive(Debug)]
pub struct RetryBudget {
    config: RetryRate,
    /// Earned by requests.
    earned: f64,
    /// Of the few a second.
    reserve: f64,
    at: Nanos,
}

impl RetryBudget {
    /// Begins with a full reserve.
    pub fn new(config: RetryRate, now: Nanos) -> Self {
        RetryBudget { config, earned: 0.0, reserve: config.min_per_second * KEPT_SECONDS, at: now }
    }

    pub fn config(&self) -> &RetryRate {
        &self.config
    }

    fn pass(&mut self, now: Nanos) {
        let passed = now.since(self.at).as_secs_f64();
        self.at = now;
        let most = self.config.min_per_second * KEPT_SECONDS;
        self.reserve = (self.reserve + passed * self.config.min_per_second).min(most);
        // What requests earned fades, so that it is a share of the last seconds' requests.
        self.earned *= (-passed / KEPT_SECONDS).exp();
    }

    /// A first attempt begins.
    pub fn request(&mut self, now: Nanos) {
        self.pass(now);
        self.earned += self.config.percent / 100.0;
    }

    /// Whether one retry more is within the budget, which it then uses.
    pub fn take(&mut self, now: Nanos) -> bool {
        self.pass(now);
        // Sums of fractions are not exact.
        for pot in [&mut self.earned, &mut self.reserve] {
            if *pot + 1e-9 >= 1.0 {
                *pot = (*pot - 1.0).max(0.0);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fifth_of_the_requests_and_a_few_a_second() {
        let mut budget = RetryBudget::new(RetryRate { min_per_second: 0.0, ..RetryRate::default() }, Nanos::ZERO);
        assert!(!budget.take(Nanos::ZERO));
        (0..100).for_each(|_| budget.request(Nanos::ZERO));
        assert_eq!((0..100).filter(|_| budget.take(Nanos::ZERO)).count(), 20);
        let mut budget = RetryBudget::new(RetryRate::default(), Nanos::ZERO);
        assert_eq!((0..100).filter(|_| budget.take(Nanos::ZERO)).count(), 30, "ten seconds' worth at once");
        assert_eq!((0..100).filter(|_| budget.take(Nanos::from_secs(1))).count(), 3);
        assert_eq!((0..100).filter(|_| budget.take(Nanos::from_secs(100))).count(), 30);
    }

    #[test]
    fn what_was_earned_long_ago_is_gone() {
        let mut budget = RetryBudget::new(RetryRate { min_per_second: 0.0, ..RetryRate::default() }, Nanos::ZERO);
        (0..1_000).for_each(|_| budget.request(Nanos::ZERO));
        assert_eq!((0..999).filter(|_| budget.take(Nanos::from_secs(60))).count(), 0);
    }

    proptest! {
        #[test]
        fn retries_never_exceed_share_and_reserve(steps in prop::collection::vec((0u64..500, 0u8..4), 1..300)) {
            let mut budget = RetryBudget::new(RetryRate::default(), Nanos::ZERO);
            let (mut now, mut requests, mut retries) = (0, 0u32, 0u32);
            for (millis, retry) in steps {
                now += millis;
                budget.request(Nanos::from_millis(now));
                requests += 1;
                for _ in 0..retry {
                    retries += u32::from(budget.take(Nanos::from_millis(now)));
                }
                let most = f64::from(requests) * 0.2 + 30.0 + now as f64 * 3.0 / 1_000.0;
                prop_assert!(f64::from(retries) <= most + 1e-6, "{retries} of {requests} after {now} ms");
            }
        }
    }
}
