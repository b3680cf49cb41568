//! How a cluster balances: policy, thresholds, locality mode, subsets.

use std::time::Duration;

use tulle_core::{FractionalPercent, Str};

use crate::endpoints::{Health, Labels};

/// The balancing policy.
#[derive(Clone, Debug, PartialEq)]
pub enum LbPolicy {
    RoundRobin,
    LeastRequest {
        /// Hosts drawn per pick when all weights are equal; at least 2.
        choices: u32,
        /// How strongly active requests lower a host's weight when weights differ.
        active_request_bias: f64,
        selection: Selection,
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
    /// The host that is expected to answer first, by its peak-sensitive moving average and its requests in flight, of
    /// two drawn at random (our own; Finagle's `PeakEwma`).
    PeakEwma(PeakEwma),
    /// To the connection's original destination; the balancer is not asked.
    OriginalDestination,
}

/// Which hosts least request compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// Some drawn at random.
    #[default]
    Choices,
    /// All of them.
    FullScan,
}

/// Settings of peak EWMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakEwma {
    /// Time in which an old observation's weight falls to 1/e.
    pub decay: Duration,
    /// What a host nobody has asked yet is expected to take while requests to it are in flight.
    pub default_latency: Duration,
}

impl Default for PeakEwma {
    fn default() -> Self {
        PeakEwma { decay: Duration::from_secs(10), default_latency: Duration::from_millis(30) }
    }
}

impl LbPolicy {
    /// Whether the request's hash decides.
    pub fn is_hashed(&self) -> bool {
        matches!(self, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. })
    }

    pub const DEFAULT_LEAST_REQUEST: LbPolicy =
        LbPolicy::LeastRequest { choices: 2, active_request_bias: 1.0, selection: Selection::Choices };
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
    /// The proxy's own zone first (`zone_aware_lb_config`).
    ZoneAware(ZoneAware),
}

/// Zone-aware routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneAware {
    /// Share of the requests that look at zones at all.
    pub routing: FractionalPercent,
    /// With fewer healthy hosts zones play no part. Envoy's default is 6.
    pub min_cluster_size: u64,
    pub basis: ZoneBasis,
    /// As many healthy hosts in the own zone take everything, whatever the other zones have.
    pub force_local: Option<u32>,
}

/// What a zone's size is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZoneBasis {
    #[default]
    Hosts,
    Weights,
}

impl Default for ZoneAware {
    fn default() -> Self {
        ZoneAware {
            routing: FractionalPercent::ALWAYS,
            min_cluster_size: 6,
            basis: ZoneBasis::Hosts,
            force_local: None,
        }
    }
}

/// New hosts get less load at first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    pub window: Duration,
    pub aggression: f64,
    pub min_weight_percent: f64,
}

/// Where a request goes when no subset fits it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SubsetFallback {
    #[default]
    NoEndpoint,
    AnyEndpoint,
    DefaultSubset,
    /// A selector's own: look again with fewer of the request's labels.
    Keys(Box<[Str]>),
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
    /// When the fallback has no host either, use all hosts.
    pub panic_mode_any: bool,
    pub localities: SubsetLocalities,
    pub lists: ListLabels,
}

/// What a label is that is a list of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListLabels {
    /// One value, which no request can ask for.
    #[default]
    Whole,
    /// Each of the values (`list_as_any`).
    Any,
}

/// What localities' weights are worth within a subset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubsetLocalities {
    /// Nothing: a subset is one pool.
    #[default]
    Ignored,
    Kept,
    /// In proportion to the hosts of the locality that are in the subset.
    Scaled,
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
    /// No host gets more than this percentage of the average load, whatever the hash says; at least 100.
    pub hash_balance_factor: Option<u32>,
    /// Request headers that may name the host to use (`override_host`), first first.
    pub override_headers: Box<[Str]>,
    /// The health that a host may have to be named by a request or its session (`override_host_status`).
    pub override_health: Box<[Health]>,
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
            hash_balance_factor: None,
            override_headers: Box::default(),
            override_health: Box::new([Health::Healthy, Health::Degraded]),
        }
    }
}
