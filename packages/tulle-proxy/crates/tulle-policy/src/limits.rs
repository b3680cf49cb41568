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

impl CircuitBreakers {
    /// Whether anything is to be shown of what is left.
    pub fn tracked(&self) -> bool {
        self.default.track_remaining || self.high.track_remaining
    }

    pub fn limits(&self, priority: Priority) -> &BreakerLimits {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}
