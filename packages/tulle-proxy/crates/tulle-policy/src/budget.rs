//! Retry budgets: retries in flight as a share of requests in flight.

use std::time::Duration;

/// `RetryBudget` of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetConfig {
    /// Percentage of active and pending requests that may be retries.
    pub percent: f64,
    /// Always allowed, whatever the percentage.
    pub min_concurrency: u32,
    /// Requests count for so long from their beginning, whether they have ended or not; zero: while they are active.
    pub interval: Duration,
}

impl Default for RetryBudgetConfig {
    /// Envoy's defaults.
    fn default() -> Self {
        RetryBudgetConfig { percent: 20.0, min_concurrency: 3, interval: Duration::ZERO }
    }
}

impl RetryBudgetConfig {
    /// How many retries may run at once beside `requests` active or pending requests.
    pub fn most(&self, requests: u32) -> u32 {
        let share = (f64::from(requests) * self.percent / 100.0) as u32;
        share.max(self.min_concurrency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_below_the_share_but_never_below_the_minimum() {
        let budget = RetryBudgetConfig::default();
        assert_eq!((budget.most(100), budget.most(0)), (20, 3));
    }
}
