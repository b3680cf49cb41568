//! Circuit-breaker limits of a cluster.

use crate::budget::RetryBudgetConfig;

/// Envoy's routing priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    #[default]
    Default,
    High,
}

/// `envoy.config.cluster.v3.CircuitBreakers.Thresholds`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerLimits {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
    /// Replaces `max_retries` when set.
    pub retry_budget: Option<RetryBudgetConfig>,
    pub max_connection_pools: Option<u32>,
}

impl Default for BreakerLimits {
    /// Envoy's defaults.
    fn default() -> Self {
        BreakerLimits {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
            max_connection_pools: None,
        }
    }
}

/// Limits for both priorities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CircuitBreakers {
    pub default: BreakerLimits,
    pub high: BreakerLimits,
    pub per_host_max_connections: Option<u32>,
}

impl CircuitBreakers {
    pub fn limits(&self, priority: Priority) -> &BreakerLimits {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

/// What a cluster uses at the moment, on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub connections: u32,
    pub pending: u32,
    pub requests: u32,
    pub retries: u32,
}

impl BreakerLimits {
    pub fn admits_connection(&self, usage: &Usage) -> bool {
        usage.connections < self.max_connections
    }

    /// A request that has to wait for a connection.
    pub fn admits_pending(&self, usage: &Usage) -> bool {
        usage.pending < self.max_pending_requests
    }

    pub fn admits_request(&self, usage: &Usage) -> bool {
        usage.requests < self.max_requests
    }

    /// By the budget when there is one, else by the count.
    pub fn admits_retry(&self, usage: &Usage) -> bool {
        match &self.retry_budget {
            Some(budget) => budget.allows(usage.retries, usage.requests.saturating_add(usage.pending)),
            None => usage.retries < self.max_retries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_replaces_the_retry_count() {
        let mut limits = BreakerLimits::default();
        let usage = Usage { retries: 3, requests: 90, pending: 10, ..Usage::default() };
        assert!(!limits.admits_retry(&usage));
        limits.retry_budget = Some(RetryBudgetConfig::default());
        assert!(limits.admits_retry(&usage));
        assert!(limits.admits_retry(&Usage { retries: 19, ..usage }));
        assert!(!limits.admits_retry(&Usage { retries: 20, ..usage }));
        assert!(limits.admits_retry(&Usage { retries: 2, ..Usage::default() }));
    }

    #[test]
    fn a_limit_admits_exactly_that_many() {
        let limits = BreakerLimits { max_connections: 1, max_requests: 0, ..BreakerLimits::default() };
        assert!(limits.admits_connection(&Usage::default()));
        assert!(!limits.admits_connection(&Usage { connections: 1, ..Usage::default() }));
        assert!(!limits.admits_request(&Usage::default()));
    }
}
