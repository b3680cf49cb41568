//! Endpoints: cluster load assignments.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint_pb;
use tulle_balance::{CheckAt, Endpoint, EndpointMetadata, EndpointSet, Health, LocalityEndpoints};
use tulle_core::recent::Recent;
use tulle_core::{FractionalPercent, Str};

use super::address::{Names, address};
use super::common::{endpoint_metadata, fraction, locality, optional, uint};
use super::cx::{Cx, refuse, without_effect};

/// As many priorities as Envoy has.
const MAX_PRIORITY: u32 = 128;

/// An assignment received by EDS, with the name that clusters refer to.
pub fn named_assignment(cx: &mut Cx, message: endpoint_pb::ClusterLoadAssignment) -> Option<(Str, EndpointSet)> {
    let name = cx.name("cluster_name", &message.cluster_name)?;
    assignment(cx, message, Names::Refused).map(|set| (name, set))
}

pub fn assignment(cx: &mut Cx, message: endpoint_pb::ClusterLoadAssignment, names: Names) -> Option<EndpointSet> {
    let endpoint_pb::ClusterLoadAssignment { cluster_name: _, endpoints, named_endpoints, policy } = message;
    refuse!(cx; named_endpoints);
    // Equal metadata is shared: a thousand endpoints of one service cost one copy.
    let shared = std::cell::RefCell::new(HashMap::new());
    let localities = cx.each("endpoints", endpoints, |cx, group| group_of(cx, group, names, &shared));
    let set = EndpointSet::new(localities);
    Some(match policy {
        Some(policy) => cx.field("policy", |cx| policy_of(cx, policy, set)),
        None => set,
    })
}

/// The endpoints with the overprovisioning factor, and the share of requests to drop.
fn policy_of(
    cx: &mut Cx,
    message: endpoint_pb::cluster_load_assignment::Policy,
    endpoints: EndpointSet,
) -> EndpointSet {
    let endpoint_pb::cluster_load_assignment::Policy {
        drop_overloads,
        overprovisioning_factor,
        endpoint_stale_after,
        weighted_priority_health,
    } = message;
    without_effect!(cx; endpoint_stale_after);
    if drop_overloads.len() > 1 {
        // As Envoy: which of several would drop a request could not be told.
        cx.error_at("drop_overloads", "may hold one category only");
    }
    let drop = cx.each("drop_overloads", drop_overloads, |cx, overload| {
        let endpoint_pb::cluster_load_assignment::policy::DropOverload { category, drop_percentage } = overload;
        cx.name("category", &category)?;
        let share = cx.required("drop_percentage", drop_percentage)?;
        cx.field("drop_percentage", |cx| fraction(cx, share))
    });
    let factor = uint(overprovisioning_factor).unwrap_or(EndpointSet::DEFAULT_OVERPROVISIONING).max(100);
    EndpointSet {
        overprovisioning: factor,
        weighted_health: weighted_priority_health,
        drop: drop.first().copied().unwrap_or(FractionalPercent::NEVER),
        ..endpoints
    }
}

thread_local! {
    static METADATA: Recent<EndpointMetadata> = const { Recent::new() };
}

/// What the endpoints of one assignment say about themselves.
type Shared = std::cell::RefCell<HashMap<EndpointMetadata, Arc<EndpointMetadata>>>;

fn group_of(
    cx: &mut Cx,
    message: endpoint_pb::LocalityLbEndpoints,
    names: Names,
    shared: &Shared,
) -> Option<LocalityEndpoints> {
    let endpoint_pb::LocalityLbEndpoints {
        locality: place,
        metadata,
        lb_endpoints,
        load_balancing_weight,
        priority,
        proximity,
        lb_config,
    } = message;
    refuse!(cx; lb_config);
    without_effect!(cx; metadata, proximity);
    if priority > MAX_PRIORITY {
        cx.error_at("priority", format!("is beyond {MAX_PRIORITY}"));
    }
    Some(LocalityEndpoints {
        locality: locality(cx, place),
        priority,
        weight: uint(load_balancing_weight),
        endpoints: cx.each("lb_endpoints", lb_endpoints, |cx, one| endpoint(cx, one, names, shared)).into(),
    })
}

fn endpoint(cx: &mut Cx, message: endpoint_pb::LbEndpoint, names: Names, shared: &Shared) -> Option<Endpoint> {
    use endpoint_pb::lb_endpoint::HostIdentifier;
    let endpoint_pb::LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = message;
    let HostIdentifier::Endpoint(host) = cx.required("endpoint", host_identifier)? else {
        cx.refuse("endpoint_name");
        return None;
    };
    let endpoint_pb::Endpoint {
        address: place,
        health_check_config,
        hostname,
        additional_addresses,
        observability_name,
    } = host;
    without_effect!(cx; observability_name);
    let place = cx.required("endpoint.address", place)?;
    let mut metadata = cx.field("metadata", |cx| endpoint_metadata(cx, metadata));
    let more = cx.each("endpoint.additional_addresses", additional_addresses, |cx, more| {
        let endpoint_pb::endpoint::AdditionalAddress { address: place } = more;
        let place = cx.required("address", place)?;
        cx.field("address", |cx| address(cx, Some(place), names))
    });
    metadata.more_addresses = more.into();
    metadata.check = match health_check_config {
        Some(config) => Some(Box::new(cx.field("endpoint.health_check_config", |cx| check_at(cx, config))?)),
        None => None,
    };
    let metadata =
        shared.borrow_mut().entry(metadata).or_insert_with_key(|made| METADATA.with(|r| r.share(made.clone()))).clone();
    let weight = uint(load_balancing_weight).unwrap_or(1);
    if weight == 0 {
        cx.error_at("load_balancing_weight", "must be at least 1");
    }
    Some(Endpoint {
        address: cx.field("endpoint.address", |cx| address(cx, Some(place), names))?,
        hostname: optional(cx, &hostname),
        weight,
        health: health(cx, health_status)?,
        metadata,
    })
}

fn health(cx: &mut Cx, value: i32) -> Option<Health> {
    use core_pb::HealthStatus;
    Some(match cx.enumeration::<HealthStatus>("health_status", value)? {
        HealthStatus::Unknown | HealthStatus::Healthy => Health::Healthy,
        HealthStatus::Degraded => Health::Degraded,
        HealthStatus::Draining => Health::Draining,
        HealthStatus::Unhealthy | HealthStatus::Timeout => Health::Unhealthy,
    })
}

fn check_at(cx: &mut Cx, message: endpoint_pb::endpoint::HealthCheckConfig) -> Option<CheckAt> {
    let endpoint_pb::endpoint::HealthCheckConfig { port_value, hostname, address: place, disable_active_health_check } =
        message;
    let port = u16::try_from(port_value).ok();
    if port.is_none() {
        cx.error_at("port_value", "must be at most 65535");
    }
    Some(CheckAt {
        port: port.filter(|port| *port > 0),
        address: match place {
            Some(place) => Some(cx.field("address", |cx| address(cx, Some(place), Names::Refused))?),
            None => None,
        },
        hostname: optional(cx, &hostname),
        disabled: disable_active_health_check,
    })
}
