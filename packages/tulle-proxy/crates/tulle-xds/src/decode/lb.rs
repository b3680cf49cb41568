//! Load balancing: the policy by enum or by extension, panic, locality, subsets and slow start.

use cluster_pb::cluster as inner_pb;
use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::extensions::load_balancing_policies as ext_pb;
use ext_pb::common::v3 as common_pb;
use prost::Name as _;
use tulle_balance::{
    Labels, LbConfig, LbPolicy, LocalityMode, SlowStart, SubsetConfig, SubsetFallback, SubsetSelector,
};

use super::common::{labels, percent, struct_to_map, uint};
use super::cx::{Cx, refuse, type_name, without_effect};

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
    if let Some(common) = parts.common {
        cx.field("common_lb_config", |cx| common_config(cx, common, &mut lb));
    }
    match parts.extension {
        Some(extension) => cx.field("load_balancing_policy", |cx| by_extension(cx, extension, &mut lb))?,
        None => by_enum(cx, parts.policy, parts.config, &mut lb)?,
    }
    if let Some(subsets) = parts.subsets {
        lb.subsets = Some(cx.field("lb_subset_config", |cx| subset_config(cx, subsets))?);
    }
    Some(lb)
}

fn common_config(cx: &mut Cx, message: inner_pb::CommonLbConfig, lb: &mut LbConfig) {
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
    refuse!(cx; consistent_hashing_lb_config, override_host_status);
    without_effect!(cx; update_merge_window, ignore_new_hosts_until_first_hc, close_connections_on_host_set_change);
    lb.panic_threshold = percent(cx, "healthy_panic_threshold", healthy_panic_threshold, lb.panic_threshold);
    match locality_config_specifier {
        Some(Specifier::LocalityWeightedLbConfig(_)) => lb.locality = LocalityMode::Weighted,
        Some(Specifier::ZoneAwareLbConfig(zone)) => {
            // Zone-aware routing needs the local cluster's endpoints, which a sidecar does not have.
            lb.fail_traffic_on_panic = zone.fail_traffic_on_panic;
            if zone.routing_enabled.is_some() || zone.min_cluster_size.is_some() {
                cx.ignore("zone_aware_lb_config");
            }
        }
        None => {}
    }
}

fn by_enum(cx: &mut Cx, policy: i32, config: Option<inner_pb::LbConfig>, lb: &mut LbConfig) -> Option<()> {
    use inner_pb::{LbConfig as Settings, LbPolicy as Policy};
    let policy = cx.enumeration::<Policy>("lb_policy", policy)?;
    lb.policy = match (policy, config) {
        (Policy::RoundRobin, Some(Settings::RoundRobinLbConfig(settings))) => {
            lb.slow_start = settings.slow_start_config.map(|slow| legacy_slow_start(cx, slow));
            LbPolicy::RoundRobin
        }
        (Policy::LeastRequest, Some(Settings::LeastRequestLbConfig(settings))) => {
            lb.slow_start = settings.slow_start_config.map(|slow| legacy_slow_start(cx, slow));
            least_request(cx, uint(settings.choice_count), settings.active_request_bias.map(|bias| bias.default_value))?
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
            ring_hash(cx, sizes, false)?
        }
        (Policy::Maglev, Some(Settings::MaglevLbConfig(settings))) => {
            maglev(cx, settings.table_size.map(|size| size.value), false)?
        }
        (Policy::RoundRobin, _) => LbPolicy::RoundRobin,
        (Policy::LeastRequest, _) => LbPolicy::DEFAULT_LEAST_REQUEST,
        (Policy::RingHash, _) => LbPolicy::DEFAULT_RING_HASH,
        (Policy::Maglev, _) => LbPolicy::DEFAULT_MAGLEV,
        (Policy::Random, _) => LbPolicy::Random,
        (Policy::ClusterProvided, _) => LbPolicy::OriginalDestination,
        (Policy::LoadBalancingPolicyConfig, _) => {
            cx.error_at("load_balancing_policy", "is required by lb_policy");
            return None;
        }
    };
    Some(())
}

fn least_request(cx: &mut Cx, choices: Option<u32>, bias: Option<f64>) -> Option<LbPolicy> {
    let choices = choices.unwrap_or(2);
    let bias = bias.unwrap_or(1.0);
    if choices < 2 || bias < 0.0 {
        cx.error("choice_count must be at least 2 and active_request_bias not negative");
        return None;
    }
    Some(LbPolicy::LeastRequest { choices, active_request_bias: bias })
}

fn ring_hash(cx: &mut Cx, (minimum, maximum): (Option<u64>, Option<u64>), use_hostname: bool) -> Option<LbPolicy> {
    let minimum_ring_size = minimum.unwrap_or(1024);
    let maximum_ring_size = maximum.unwrap_or(MAX_RING);
    if minimum_ring_size > maximum_ring_size || maximum_ring_size > MAX_RING {
        cx.error(format!("minimum_ring_size must not be above maximum_ring_size, nor that above {MAX_RING}"));
        return None;
    }
    Some(LbPolicy::RingHash { minimum_ring_size, maximum_ring_size, use_hostname })
}

fn maglev(cx: &mut Cx, size: Option<u64>, use_hostname: bool) -> Option<LbPolicy> {
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

/// The first policy of a list that is known, as Envoy chooses.
fn by_extension(cx: &mut Cx, message: cluster_pb::LoadBalancingPolicy, lb: &mut LbConfig) -> Option<()> {
    for (at, policy) in message.policies.into_iter().enumerate() {
        let Some(any) = policy.typed_extension_config.and_then(|extension| extension.typed_config) else { continue };
        let known = cx.field(&format!("policies[{at}]"), |cx| extension(cx, &any, lb))?;
        if known {
            return Some(());
        }
    }
    cx.error_at("policies", "holds no policy that is supported");
    None
}

/// `None` after an error; `Some(false)` for a policy that is not known.
fn extension(cx: &mut Cx, any: &envoy_types::pb::google::protobuf::Any, lb: &mut LbConfig) -> Option<bool> {
    let typed = type_name(&any.type_url);
    if typed == ext_pb::round_robin::v3::RoundRobin::full_name() {
        let message = cx.unpack::<ext_pb::round_robin::v3::RoundRobin>(any)?;
        lb.slow_start = message.slow_start_config.map(|slow| slow_start(cx, slow));
        locality(message.locality_lb_config, lb);
        lb.policy = LbPolicy::RoundRobin;
    } else if typed == ext_pb::least_request::v3::LeastRequest::full_name() {
        let message = cx.unpack::<ext_pb::least_request::v3::LeastRequest>(any)?;
        let ext_pb::least_request::v3::LeastRequest {
            choice_count,
            active_request_bias,
            slow_start_config,
            locality_lb_config,
            enable_full_scan,
            selection_method,
        } = message;
        without_effect!(cx; enable_full_scan, selection_method);
        lb.slow_start = slow_start_config.map(|slow| slow_start(cx, slow));
        locality(locality_lb_config, lb);
        lb.policy = least_request(cx, uint(choice_count), active_request_bias.map(|bias| bias.default_value))?;
    } else if typed == ext_pb::random::v3::Random::full_name() {
        let message = cx.unpack::<ext_pb::random::v3::Random>(any)?;
        locality(message.locality_lb_config, lb);
        lb.policy = LbPolicy::Random;
    } else if typed == ext_pb::ring_hash::v3::RingHash::full_name() {
        let message = cx.unpack::<ext_pb::ring_hash::v3::RingHash>(any)?;
        let hostname = message.use_hostname_for_hashing
            || message.consistent_hashing_lb_config.as_ref().is_some_and(|common| common.use_hostname_for_hashing);
        if message.locality_weighted_lb_config.is_some() {
            lb.locality = LocalityMode::Weighted;
        }
        let sizes =
            (message.minimum_ring_size.map(|size| size.value), message.maximum_ring_size.map(|size| size.value));
        lb.policy = ring_hash(cx, sizes, hostname)?;
    } else if typed == ext_pb::maglev::v3::Maglev::full_name() {
        let message = cx.unpack::<ext_pb::maglev::v3::Maglev>(any)?;
        let hostname =
            message.consistent_hashing_lb_config.as_ref().is_some_and(|common| common.use_hostname_for_hashing);
        if message.locality_weighted_lb_config.is_some() {
            lb.locality = LocalityMode::Weighted;
        }
        lb.policy = maglev(cx, message.table_size.map(|size| size.value), hostname)?;
    } else if typed == ext_pb::wrr_locality::v3::WrrLocality::full_name() {
        let message = cx.unpack::<ext_pb::wrr_locality::v3::WrrLocality>(any)?;
        let inner = cx.required("endpoint_picking_policy", message.endpoint_picking_policy)?;
        cx.field("endpoint_picking_policy", |cx| by_extension(cx, inner, lb))?;
        lb.locality = LocalityMode::Weighted;
    } else {
        return Some(false);
    }
    Some(true)
}

fn locality(message: Option<common_pb::LocalityLbConfig>, lb: &mut LbConfig) {
    use common_pb::locality_lb_config::LocalityConfigSpecifier as Specifier;
    if let Some(Specifier::LocalityWeightedLbConfig(_)) = message.and_then(|config| config.locality_config_specifier) {
        lb.locality = LocalityMode::Weighted;
    }
}

fn legacy_slow_start(cx: &mut Cx, message: inner_pb::SlowStartConfig) -> SlowStart {
    let inner_pb::SlowStartConfig { slow_start_window, aggression, min_weight_percent } = message;
    slow_start(cx, common_pb::SlowStartConfig { slow_start_window, aggression, min_weight_percent })
}

fn slow_start(cx: &mut Cx, message: common_pb::SlowStartConfig) -> SlowStart {
    let common_pb::SlowStartConfig { slow_start_window, aggression, min_weight_percent } = message;
    SlowStart {
        window: cx.duration("slow_start_window", slow_start_window).unwrap_or_default(),
        aggression: aggression.map_or(1.0, |aggression| aggression.default_value),
        min_weight_percent: percent(cx, "min_weight_percent", min_weight_percent, 10.0),
    }
}

fn subset_config(cx: &mut Cx, message: inner_pb::LbSubsetConfig) -> Option<SubsetConfig> {
    use inner_pb::lb_subset_config::LbSubsetFallbackPolicy as Fallback;
    let inner_pb::LbSubsetConfig {
        fallback_policy,
        default_subset,
        subset_selectors,
        locality_weight_aware,
        scale_locality_weight,
        panic_mode_any,
        list_as_any,
        metadata_fallback_policy,
    } = message;
    refuse!(cx; list_as_any, metadata_fallback_policy);
    without_effect!(cx; locality_weight_aware, scale_locality_weight);
    Some(SubsetConfig {
        fallback: match cx.enumeration::<Fallback>("fallback_policy", fallback_policy)? {
            Fallback::NoFallback => SubsetFallback::NoEndpoint,
            Fallback::AnyEndpoint => SubsetFallback::AnyEndpoint,
            Fallback::DefaultSubset => SubsetFallback::DefaultSubset,
        },
        default_subset: match default_subset {
            Some(fields) => cx.field("default_subset", |cx| labels(cx, &struct_to_map(fields))),
            None => Labels::default(),
        },
        selectors: cx.each("subset_selectors", subset_selectors, subset_selector).into(),
        panic_mode_any,
    })
}

fn subset_selector(cx: &mut Cx, message: inner_pb::lb_subset_config::LbSubsetSelector) -> Option<SubsetSelector> {
    use inner_pb::lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy as Fallback;
    let inner_pb::lb_subset_config::LbSubsetSelector {
        mut keys,
        single_host_per_subset,
        fallback_policy,
        fallback_keys_subset,
    } = message;
    refuse!(cx; fallback_keys_subset);
    without_effect!(cx; single_host_per_subset);
    keys.sort();
    Some(SubsetSelector {
        keys: keys.iter().map(|key| cx.intern(key)).collect(),
        fallback: match cx.enumeration::<Fallback>("fallback_policy", fallback_policy)? {
            Fallback::NotDefined => None,
            Fallback::NoFallback => Some(SubsetFallback::NoEndpoint),
            Fallback::AnyEndpoint => Some(SubsetFallback::AnyEndpoint),
            Fallback::DefaultSubset => Some(SubsetFallback::DefaultSubset),
            Fallback::KeysSubset => {
                cx.error_at("fallback_policy", "KEYS_SUBSET is not supported");
                None
            }
        },
    })
}
