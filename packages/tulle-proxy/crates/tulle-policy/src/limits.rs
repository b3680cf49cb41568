//! Circuit-breaker limits of a cluster.

use std::time::Duration;

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
    /// How much is left of each limit is shown among the statistics.
    pub track_remaining: bool,
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
            track_remaining: false,
        }
    }
}

/// Limits for both priorities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CircuitBreakers {
    pub default: BreakerLimits,
    pub high: BreakerLimits,
    /// Connections that one worker may have to one host.
    pub per_host_max_connections: Option<u32>,
}

impl BreakerLimits {
    /// How long requests count for the retry budget, where not only active ones do.
    pub fn budget_interval(&self) -> Option<Duration> {
        self.retry_budget.map(|budget| budget.interval).filter(|interval| !interval.is_zero())
    }
}

impl CircuitBreakers {
    /// Whether anything is to be shown of what is left, or remembered of what was.
    pub fn tracked(&self) -> bool {
        let tracked = |limits: &BreakerLimits| limits.track_remaining || limits.budget_interval().is_some();
        tracked(&self.default) || tracked(&self.high)
    }

    pub fn limits(&self, priority: Priority) -> &BreakerLimits {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}
