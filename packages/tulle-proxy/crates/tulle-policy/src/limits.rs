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
