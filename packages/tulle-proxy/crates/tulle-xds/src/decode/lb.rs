//! Load balancing: the policy by enum or by extension, panic, locality, subsets and slow start.

use cluster_pb::cluster as inner_pb;
use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::extensions::load_balancing_policies as ext_pb;
use ext_pb::common::v3 as common_pb;
use tulle_balance::{Health, LbConfig, LbPolicy, LocalityMode, Selection, SlowStart, ZoneAware, ZoneBasis};
use tulle_core::FractionalPercent;

use super::common::{percent, uint};
use super::cx::{Cx, without_effect};
use super::lb_extensions::by_extension;
use super::subsets::subset_config;

/// Envoy's limit on ring size.
const MAX_RING: u64 = 8 * 1024 * 1024;

/// The parts of a cluster that say how it balances.
pub struct Parts {
    pub policy: i32,
    pub config: Option<inner_pb::LbConfig>,
    pub extension: Option<cluster_pb::LoadBalancingPolicy>,
    pub common: Option<inner_pb::CommonLbConfig>,
    pub subsets: Option<inner_pb::LbSubsetConfig>,
}

pub fn lb_config(cx: &mut Cx, parts: Parts) -> Option<LbConfig> {
    let mut lb = LbConfig::default();
    let hostname = match parts.common {
        Some(common) => cx.field("common_lb_config", |cx| common_config(cx, common, &mut lb)),
        None => false,
    };
    match parts.extension {
        Some(extension) => cx.field("load_balancing_policy", |cx| by_extension(cx, extension, &mut lb))?,
        None => by_enum(cx, (parts.policy, hostname), parts.config, &mut lb)?,
    }
    if let Some(subsets) = parts.subsets {
        lb.subsets = Some(cx.field("lb_subset_config", |cx| subset_config(cx, subsets))?);
    }
    Some(lb)
}

/// Whether consistent hashing hashes host names is the result.
fn common_config(cx: &mut Cx, message: inner_pb::CommonLbConfig, lb: &mut LbConfig) -> bool {
    use inner_pb::common_lb_config::LocalityConfigSpecifier as Specifier;
    let inner_pb::CommonLbConfig {
        healthy_panic_threshold,
        update_merge_window,
        ignore_new_hosts_until_first_hc,
        close_connections_on_host_set_change,
        consistent_hashing_lb_config,
        override_host_status,
        locality_config_specifier,
    } = message;
    if let Some(statuses) = override_host_status {
        lb.override_health = cx.each("override_host_status.statuses", statuses.statuses, health).into();
    }
    without_effect!(cx; update_merge_window, ignore_new_hosts_until_first_hc, close_connections_on_host_set_change);
    let mut hostname = false;
    lb.panic_threshold = percent(cx, "healthy_panic_threshold", healthy_panic_threshold, lb.panic_threshold);
    match locality_config_specifier {
        Some(Specifier::LocalityWeightedLbConfig(_)) => lb.locality = LocalityMode::Weighted,
        Some(Specifier::ZoneAwareLbConfig(zones)) => {
            let inner_pb::common_lb_config::ZoneAwareLbConfig {
                routing_enabled,
                min_cluster_size,
                fail_traffic_on_panic,
            } = zones;
            let typed = common_pb::locality_lb_config::ZoneAwareLbConfig {
                routing_enabled,
                min_cluster_size,
                fail_traffic_on_panic,
                ..common_pb::locality_lb_config::ZoneAwareLbConfig::default()
            };
            cx.field("zone_aware_lb_config", |cx| zone_aware(cx, typed, lb));
        }
        None => {}
    }
    if let Some(consistent) = consistent_hashing_lb_config {
        let inner_pb::common_lb_config::ConsistentHashingLbConfig { use_hostname_for_hashing, hash_balance_factor } =
            consistent;
        cx.field("consistent_hashing_lb_config", |cx| {
            lb.hash_balance_factor = balance_factor(cx, uint(hash_balance_factor));
        });
        hostname = use_hostname_for_hashing;
    }
    hostname
}

/// Zones need the proxy's own cluster (`cluster_manager.local_cluster_name` of the bootstrap); without it they play no
/// part, as in Envoy.
pub fn zone_aware(cx: &mut Cx, message: common_pb::locality_lb_config::ZoneAwareLbConfig, lb: &mut LbConfig) {
    use common_pb::locality_lb_config::zone_aware_lb_config::LocalityBasis;
    let common_pb::locality_lb_config::ZoneAwareLbConfig {
        routing_enabled,
        min_cluster_size,
        fail_traffic_on_panic,
        force_locality_direct_routing,
        force_local_zone,
        locality_basis,
    } = message;
    let defaults = ZoneAware::default();
    let forced = force_local_zone.map(|zone| uint(zone.min_size).unwrap_or(1));
    lb.fail_traffic_on_panic = fail_traffic_on_panic;
    lb.locality = LocalityMode::ZoneAware(ZoneAware {
        routing: FractionalPercent::from_percent(percent(cx, "routing_enabled", routing_enabled, 100.0)),
        min_cluster_size: min_cluster_size.map_or(defaults.min_cluster_size, |size| size.value),
        basis: match cx.enumeration::<LocalityBasis>("locality_basis", locality_basis) {
            Some(LocalityBasis::HealthyHostsWeight) => ZoneBasis::Weights,
            Some(LocalityBasis::HealthyHostsNum) | None => ZoneBasis::Hosts,
        },
        force_local: forced.or(force_locality_direct_routing.then_some(1)),
    });
}

/// At least 100 percent; absent and zero mean no bound.
pub fn balance_factor(cx: &mut Cx, percent: Option<u32>) -> Option<u32> {
    let percent = percent.filter(|percent| *percent > 0)?;
    if percent < 100 {
        cx.error_at("hash_balance_factor", "must be at least 100");
    }
    Some(percent)
}

fn by_enum(
    cx: &mut Cx,
    (policy, hostname): (i32, bool),
    config: Option<inner_pb::LbConfig>,
    lb: &mut LbConfig,
) -> Option<()> {
    use inner_pb::{LbConfig as Settings, LbPolicy as Policy};
    let policy = cx.enumeration::<Policy>("lb_policy", policy)?;
    lb.policy = match (policy, config) {
        (Policy::RoundRobin, Some(Settings::RoundRobinLbConfig(settings))) => {
            lb.slow_start = settings.slow_start_config.map(|slow| legacy_slow_start(cx, slow));
            LbPolicy::RoundRobin
        }
        (Policy::LeastRequest, Some(Settings::LeastRequestLbConfig(settings))) => {
            lb.slow_start = settings.slow_start_config.map(|slow| legacy_slow_start(cx, slow));
            let bias = settings.active_request_bias.map(|bias| bias.default_value);
            least_request(cx, uint(settings.choice_count), bias, Selection::Choices)?
        }
        (Policy::RingHash, Some(Settings::RingHashLbConfig(settings))) => {
            use inner_pb::ring_hash_lb_config::HashFunction;
            if cx.enumeration::<HashFunction>("ring_hash_lb_config.hash_function", settings.hash_function)?
                == HashFunction::MurmurHash2
            {
                cx.error_at("ring_hash_lb_config.hash_function", "only XX_HASH is supported");
            }
            let sizes =
                (settings.minimum_ring_size.map(|size| size.value), settings.maximum_ring_size.map(|size| size.value));
            ring_hash(cx, sizes, hostname)?
        }
        (Policy::Maglev, Some(Settings::MaglevLbConfig(settings))) => {
            maglev(cx, settings.table_size.map(|size| size.value), hostname)?
        }
        (Policy::RoundRobin, _) => LbPolicy::RoundRobin,
        (Policy::LeastRequest, _) => LbPolicy::DEFAULT_LEAST_REQUEST,
        (Policy::RingHash, _) => ring_hash(cx, (None, None), hostname)?,
        (Policy::Maglev, _) => maglev(cx, None, hostname)?,
        (Policy::Random, _) => LbPolicy::Random,
        (Policy::ClusterProvided, _) => LbPolicy::OriginalDestination,
        (Policy::LoadBalancingPolicyConfig, _) => {
            cx.error_at("load_balancing_policy", "is required by lb_policy");
            return None;
        }
    };
    Some(())
}

pub fn least_request(cx: &mut Cx, choices: Option<u32>, bias: Option<f64>, selection: Selection) -> Option<LbPolicy> {
    let choices = choices.unwrap_or(2);
    let bias = bias.unwrap_or(1.0);
    if choices < 2 || bias < 0.0 {
        cx.error("choice_count must be at least 2 and active_request_bias not negative");
        return None;
    }
    Some(LbPolicy::LeastRequest { choices, active_request_bias: bias, selection })
}

pub fn ring_hash(cx: &mut Cx, (minimum, maximum): (Option<u64>, Option<u64>), use_hostname: bool) -> Option<LbPolicy> {
    let minimum_ring_size = minimum.unwrap_or(1024);
    let maximum_ring_size = maximum.unwrap_or(MAX_RING);
    if minimum_ring_size > maximum_ring_size || maximum_ring_size > MAX_RING {
        cx.error(format!("minimum_ring_size must not be above maximum_ring_size, nor that above {MAX_RING}"));
        return None;
    }
    Some(LbPolicy::RingHash { minimum_ring_size, maximum_ring_size, use_hostname })
}

pub fn maglev(cx: &mut Cx, size: Option<u64>, use_hostname: bool) -> Option<LbPolicy> {
    let size = size.unwrap_or(65537);
    let prime =
        size >= 2 && (2..).take_while(|factor| factor * factor <= size).all(|factor| !size.is_multiple_of(factor));
    match u32::try_from(size) {
        Ok(table_size) if table_size <= 5_000_011 && prime => Some(LbPolicy::Maglev { table_size, use_hostname }),
        _ => {
            cx.error_at("table_size", "must be a prime not above 5000011");
            None
        }
    }
}

fn legacy_slow_start(cx: &mut Cx, message: inner_pb::SlowStartConfig) -> SlowStart {
    let inner_pb::SlowStartConfig { slow_start_window, aggression, min_weight_percent } = message;
    slow_start(cx, common_pb::SlowStartConfig { slow_start_window, aggression, min_weight_percent })
}

pub fn slow_start(cx: &mut Cx, message: common_pb::SlowStartConfig) -> SlowStart {
    let common_pb::SlowStartConfig { slow_start_window, aggression, min_weight_percent } = message;
    SlowStart {
        window: cx.duration("slow_start_window", slow_start_window).unwrap_or_default(),
        aggression: aggression.map_or(1.0, |aggression| aggression.default_value),
        min_weight_percent: percent(cx, "min_weight_percent", min_weight_percent, 10.0),
    }
}

/// The health that hosts of a status have here; an unknown status counts as healthy.
fn health(cx: &mut Cx, status: i32) -> Option<Health> {
    let Ok(known) = HealthStatus::try_from(status) else {
        cx.error(format!("{status} is not a known value"));
        return None;
    };
    Some(match known {
        HealthStatus::Unknown | HealthStatus::Healthy => Health::Healthy,
        HealthStatus::Degraded => Health::Degraded,
        HealthStatus::Unhealthy | HealthStatus::Timeout => Health::Unhealthy,
        HealthStatus::Draining => Health::Draining,
    })
}
