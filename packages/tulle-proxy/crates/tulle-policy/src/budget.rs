//! Retry budgets: retries in flight as a share of requests in flight.

/// `RetryBudget` of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudgetConfig {
    /// Percentage of active and pending requests that may be retries.
    pub percent: f64,
    /// Always allowed, whatever the percentage.
    pub min_concurrency: u32,
}

impl Default for RetryBudgetConfig {
    /// Envoy's defaults.
    fn default() -> Self {
        RetryBudgetConfig { percent: 20.0, min_concurrency: 3 }
    }
}

impl RetryBudgetConfig {
    /// Whether one more retry may start beside `retries` running ones and `requests` active or pending requests.
    pub fn allows(&self, retries: u32, requests: u32) -> bool {
        let share = (f64::from(requests) * self.percent / 100.0) as u32;
        retries < share.max(self.min_concurrency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_below_the_share_but_never_below_the_minimum() {
        let budget = RetryBudgetConfig::default();
        assert!(budget.allows(19, 100));
        assert!(!budget.allows(20, 100));
        assert!(budget.allows(2, 0));
        assert!(!budget.allows(3, 0));
    }
}
