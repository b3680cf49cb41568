//! Load balancing by typed policies (`load_balancing_policy`): the first of a list that is known counts.

use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::extensions::load_balancing_policies as ext_pb;
use envoy_types::pb::google::protobuf::Any;
use ext_pb::common::v3 as common_pb;
use prost::Name as _;
use tulle_balance::{LbConfig, LbPolicy, LocalityMode, Selection};

use super::common::{truth, uint};
use super::cx::{Cx, refuse, type_name};
use super::lb::{balance_factor, least_request, maglev, ring_hash, slow_start, zone_aware};
use super::subsets;

/// The first policy of a list that is known, as Envoy chooses.
pub fn by_extension(cx: &mut Cx, message: cluster_pb::LoadBalancingPolicy, lb: &mut LbConfig) -> Option<()> {
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
fn extension(cx: &mut Cx, any: &Any, lb: &mut LbConfig) -> Option<bool> {
    let typed = type_name(&any.type_url);
    if typed == ext_pb::round_robin::v3::RoundRobin::full_name() {
        let message = cx.unpack::<ext_pb::round_robin::v3::RoundRobin>(any)?;
        let ext_pb::round_robin::v3::RoundRobin { slow_start_config, locality_lb_config } = message;
        lb.slow_start = slow_start_config.map(|slow| slow_start(cx, slow));
        locality(cx, locality_lb_config, lb);
        lb.policy = LbPolicy::RoundRobin;
    } else if typed == ext_pb::least_request::v3::LeastRequest::full_name() {
        let message = cx.unpack::<ext_pb::least_request::v3::LeastRequest>(any)?;
        typed_least_request(cx, message, lb)?;
    } else if typed == ext_pb::random::v3::Random::full_name() {
        let ext_pb::random::v3::Random { locality_lb_config } = cx.unpack::<ext_pb::random::v3::Random>(any)?;
        locality(cx, locality_lb_config, lb);
        lb.policy = LbPolicy::Random;
    } else if typed == ext_pb::ring_hash::v3::RingHash::full_name() {
        let message = cx.unpack::<ext_pb::ring_hash::v3::RingHash>(any)?;
        typed_ring_hash(cx, message, lb)?;
    } else if typed == ext_pb::maglev::v3::Maglev::full_name() {
        let message = cx.unpack::<ext_pb::maglev::v3::Maglev>(any)?;
        let ext_pb::maglev::v3::Maglev { table_size, consistent_hashing_lb_config, locality_weighted_lb_config } =
            message;
        let hostname = consistent(cx, consistent_hashing_lb_config, lb);
        weighted(locality_weighted_lb_config, lb);
        lb.policy = maglev(cx, table_size.map(|size| size.value), hostname)?;
    } else if typed == ext_pb::wrr_locality::v3::WrrLocality::full_name() {
        let message = cx.unpack::<ext_pb::wrr_locality::v3::WrrLocality>(any)?;
        let inner = cx.required("endpoint_picking_policy", message.endpoint_picking_policy)?;
        cx.field("endpoint_picking_policy", |cx| by_extension(cx, inner, lb))?;
        lb.locality = LocalityMode::Weighted;
    } else if typed == ext_pb::subset::v3::Subset::full_name() {
        let message = cx.unpack::<ext_pb::subset::v3::Subset>(any)?;
        subsets::typed(cx, message, lb)?;
    } else if typed == ext_pb::override_host::v3::OverrideHost::full_name() {
        let message = cx.unpack::<ext_pb::override_host::v3::OverrideHost>(any)?;
        override_host(cx, message, lb)?;
    } else if typed == ext_pb::cluster_provided::v3::ClusterProvided::full_name() {
        lb.policy = LbPolicy::OriginalDestination;
    } else {
        return Some(false);
    }
    Some(true)
}

fn typed_least_request(cx: &mut Cx, message: ext_pb::least_request::v3::LeastRequest, lb: &mut LbConfig) -> Option<()> {
    use ext_pb::least_request::v3::least_request::SelectionMethod;
    let ext_pb::least_request::v3::LeastRequest {
        choice_count,
        active_request_bias,
        slow_start_config,
        locality_lb_config,
        enable_full_scan,
        selection_method,
    } = message;
    lb.slow_start = slow_start_config.map(|slow| slow_start(cx, slow));
    locality(cx, locality_lb_config, lb);
    let method = cx.enumeration::<SelectionMethod>("selection_method", selection_method)?;
    let selection = match truth(enable_full_scan, false) || method == SelectionMethod::FullScan {
        true => Selection::FullScan,
        false => Selection::Choices,
    };
    let bias = active_request_bias.map(|bias| bias.default_value);
    lb.policy = least_request(cx, uint(choice_count), bias, selection)?;
    Some(())
}

fn typed_ring_hash(cx: &mut Cx, message: ext_pb::ring_hash::v3::RingHash, lb: &mut LbConfig) -> Option<()> {
    use ext_pb::ring_hash::v3::ring_hash::HashFunction;
    let ext_pb::ring_hash::v3::RingHash {
        hash_function,
        minimum_ring_size,
        maximum_ring_size,
        use_hostname_for_hashing,
        hash_balance_factor,
        consistent_hashing_lb_config,
        locality_weighted_lb_config,
    } = message;
    if cx.enumeration::<HashFunction>("hash_function", hash_function)? == HashFunction::MurmurHash2 {
        cx.error_at("hash_function", "only XX_HASH is supported");
    }
    lb.hash_balance_factor = balance_factor(cx, uint(hash_balance_factor));
    let hostname = consistent(cx, consistent_hashing_lb_config, lb) || use_hostname_for_hashing;
    weighted(locality_weighted_lb_config, lb);
    let sizes = (minimum_ring_size.map(|size| size.value), maximum_ring_size.map(|size| size.value));
    lb.policy = ring_hash(cx, sizes, hostname)?;
    Some(())
}

/// Whether host names are hashed.
fn consistent(cx: &mut Cx, message: Option<common_pb::ConsistentHashingLbConfig>, lb: &mut LbConfig) -> bool {
    let Some(message) = message else { return false };
    let common_pb::ConsistentHashingLbConfig { use_hostname_for_hashing, hash_balance_factor, hash_policy } = message;
    cx.field("consistent_hashing_lb_config", |cx| {
        refuse!(cx; hash_policy);
        if hash_balance_factor.is_some() {
            lb.hash_balance_factor = balance_factor(cx, uint(hash_balance_factor));
        }
    });
    use_hostname_for_hashing
}

fn weighted(message: Option<common_pb::locality_lb_config::LocalityWeightedLbConfig>, lb: &mut LbConfig) {
    if message.is_some() {
        lb.locality = LocalityMode::Weighted;
    }
}

fn locality(cx: &mut Cx, message: Option<common_pb::LocalityLbConfig>, lb: &mut LbConfig) {
    use common_pb::locality_lb_config::LocalityConfigSpecifier as Specifier;
    match message.and_then(|config| config.locality_config_specifier) {
        Some(Specifier::LocalityWeightedLbConfig(_)) => lb.locality = LocalityMode::Weighted,
        Some(Specifier::ZoneAwareLbConfig(zones)) => {
            cx.field("locality_lb_config.zone_aware_lb_config", |cx| zone_aware(cx, zones, lb));
        }
        None => {}
    }
}

fn override_host(cx: &mut Cx, message: ext_pb::override_host::v3::OverrideHost, lb: &mut LbConfig) -> Option<()> {
    let ext_pb::override_host::v3::OverrideHost { override_host_sources, selected_host_key, fallback_policy } = message;
    refuse!(cx; selected_host_key);
    let headers = cx.each("override_host_sources", override_host_sources, |cx, source| {
        let ext_pb::override_host::v3::override_host::OverrideHostSource { header, metadata } = source;
        refuse!(cx; metadata);
        cx.name("header", &header.to_ascii_lowercase())
    });
    lb.override_headers = headers.into();
    let inner = cx.required("fallback_policy", fallback_policy)?;
    cx.field("fallback_policy", |cx| by_extension(cx, inner, lb))
}
