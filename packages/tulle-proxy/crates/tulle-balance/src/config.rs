//! How a cluster balances: policy, thresholds, locality mode, subsets.

use std::time::Duration;

use tulle_core::Str;

use crate::endpoints::Labels;

/// The balancing policy.
#[derive(Clone, Debug, PartialEq)]
pub enum LbPolicy {
    RoundRobin,
    LeastRequest {
        /// Hosts drawn per pick when all weights are equal; at least 2.
        choices: u32,
        /// How strongly active requests lower a host's weight when weights differ.
        active_request_bias: f64,
    },
    Random,
    RingHash {
        minimum_ring_size: u64,
        maximum_ring_size: u64,
        use_hostname: bool,
    },
    Maglev {
        /// A prime.
        table_size: u32,
        use_hostname: bool,
    },
    /// To the connection's original destination; the balancer is not asked.
    OriginalDestination,
}

impl LbPolicy {
    pub const DEFAULT_LEAST_REQUEST: LbPolicy = LbPolicy::LeastRequest { choices: 2, active_request_bias: 1.0 };
    pub const DEFAULT_RING_HASH: LbPolicy =
        LbPolicy::RingHash { minimum_ring_size: 1024, maximum_ring_size: 8 * 1024 * 1024, use_hostname: false };
    pub const DEFAULT_MAGLEV: LbPolicy = LbPolicy::Maglev { table_size: 65537, use_hostname: false };
}

/// How localities of one priority share the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalityMode {
    /// All hosts are one pool.
    #[default]
    Flat,
    /// By locality weight times health (`locality_weighted_lb_config`).
    Weighted,
}

/// New hosts get less load at first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    pub window: Duration,
    pub aggression: f64,
    pub min_weight_percent: f64,
}

/// Where a request goes when no subset fits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubsetFallback {
    #[default]
    NoEndpoint,
    AnyEndpoint,
    DefaultSubset,
}

/// One selector: subsets are made for every combination of these keys' values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsetSelector {
    /// Sorted.
    pub keys: Box<[Str]>,
    pub fallback: Option<SubsetFallback>,
}

/// `LbSubsetConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubsetConfig {
    pub fallback: SubsetFallback,
    pub default_subset: Labels,
    pub selectors: Box<[SubsetSelector]>,
    /// When a subset has no healthy host, use all hosts.
    pub panic_mode_any: bool,
}

/// A cluster's balancing settings.
#[derive(Clone, Debug, PartialEq)]
pub struct LbConfig {
    pub policy: LbPolicy,
    /// Below this share of healthy hosts all hosts are used; percent, Envoy's default 50; 0 switches it off.
    pub panic_threshold: f64,
    pub fail_traffic_on_panic: bool,
    pub locality: LocalityMode,
    pub subsets: Option<SubsetConfig>,
    pub slow_start: Option<SlowStart>,
}

impl Default for LbConfig {
    fn default() -> Self {
        LbConfig {
            policy: LbPolicy::RoundRobin,
            panic_threshold: 50.0,
            fail_traffic_on_panic: false,
            locality: LocalityMode::Flat,
            subsets: None,
            slow_start: None,
        }
    }
}
