//! Subset load balancing, by the cluster's own field or by its typed policy.

use cluster_pb::cluster as inner_pb;
use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use prost::Message as _;
use tulle_balance::{Labels, LbConfig, ListLabels, SubsetConfig, SubsetFallback, SubsetLocalities, SubsetSelector};

use super::common::{labels, struct_to_map};
use super::cx::{Cx, refuse, without_effect};
use super::lb_extensions::by_extension;

/// The typed policy: the same settings, around a policy for the subsets.
pub fn typed(cx: &mut Cx, mut message: Subset, lb: &mut LbConfig) -> Option<()> {
    let inner = cx.required("subset_lb_policy", message.subset_lb_policy.take())?;
    cx.field("subset_lb_policy", |cx| by_extension(cx, inner, lb))?;
    // Subsets have no index here that redundant keys could confuse.
    message.allow_redundant_keys = false;
    // Both messages have the same fields under the same numbers.
    let Ok(same) = inner_pb::LbSubsetConfig::decode(message.encode_to_vec().as_slice()) else {
        cx.error("is not a valid subset configuration");
        return None;
    };
    lb.subsets = Some(subset_config(cx, same)?);
    Some(())
}

pub fn subset_config(cx: &mut Cx, message: inner_pb::LbSubsetConfig) -> Option<SubsetConfig> {
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
    refuse!(cx; metadata_fallback_policy);
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
        localities: match (locality_weight_aware, scale_locality_weight) {
            (false, _) => SubsetLocalities::Ignored,
            (true, false) => SubsetLocalities::Kept,
            (true, true) => SubsetLocalities::Scaled,
        },
        lists: if list_as_any { ListLabels::Any } else { ListLabels::Whole },
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
    without_effect!(cx; single_host_per_subset);
    keys.sort();
    keys.dedup();
    let fallback = match cx.enumeration::<Fallback>("fallback_policy", fallback_policy)? {
        Fallback::NotDefined => None,
        Fallback::NoFallback => Some(SubsetFallback::NoEndpoint),
        Fallback::AnyEndpoint => Some(SubsetFallback::AnyEndpoint),
        Fallback::DefaultSubset => Some(SubsetFallback::DefaultSubset),
        Fallback::KeysSubset => {
            let proper = fallback_keys_subset.iter().all(|key| keys.contains(key));
            if fallback_keys_subset.is_empty() || !proper || fallback_keys_subset.len() >= keys.len() {
                cx.error_at("fallback_keys_subset", "must be some, and not all, of the keys");
            }
            Some(SubsetFallback::Keys(fallback_keys_subset.iter().map(|key| cx.intern(key)).collect()))
        }
    };
    Some(SubsetSelector { keys: keys.iter().map(|key| cx.intern(key)).collect(), fallback })
}
