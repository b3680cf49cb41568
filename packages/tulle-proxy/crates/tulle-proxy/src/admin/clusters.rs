//! `/clusters`: clusters and endpoints, as configured and found out, in Envoy's text and JSON forms.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use tulle_balance::{Endpoint, EndpointSet, Health, LocalityEndpoints};
use tulle_config::{Cluster, Config, Discovery};
use tulle_core::Address;
use tulle_policy::BreakerLimits;
use tulle_xds::decode::Kind;

use super::{Admin, Answer, Query};
use crate::worker::hosts::{Check, ClusterHosts, Known};
use crate::worker::target::endpoints_of;

pub fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    let config = admin.config();
    let mut clusters: Vec<&Arc<Cluster>> = config.clusters.values().collect();
    clusters.sort_by(|left, right| left.name.cmp(&right.name));
    let known = admin.hooks.hosts();
    let seen = |cluster: &Cluster| Seen::new(&config, &known, cluster);
    let dynamic = |cluster: &Cluster| is_dynamic(admin, cluster);
    if query.get("format") == Some("json") {
        let statuses: Vec<Value> =
            clusters.iter().map(|cluster| status(&seen(cluster), cluster, dynamic(cluster))).collect();
        return Answer::json(&json!({ "cluster_statuses": statuses }));
    }
    let mut text = String::new();
    for cluster in clusters {
        let _ = write_text(&mut text, &seen(cluster), cluster, dynamic(cluster));
    }
    Answer::text(text)
}

fn is_dynamic(admin: &Admin, cluster: &Cluster) -> bool {
    let client = admin.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    client.cache().entries(Kind::Cluster).iter().any(|(name, _, _)| **name == cluster.name)
}

/// A cluster's hosts, and how their checks stand where it has any.
struct Seen {
    endpoints: Arc<EndpointSet>,
    known: Option<Arc<ClusterHosts>>,
    checked: bool,
}

impl Seen {
    fn new(config: &Config, known: &Known, cluster: &Cluster) -> Seen {
        let known = known.get(&cluster.name).cloned();
        Seen {
            endpoints: endpoints_of(config, cluster, known.as_deref()).unwrap_or_default(),
            known,
            checked: !cluster.health_checks.is_empty(),
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Option<Check> {
        let check = || self.known.as_ref().map(|hosts| hosts.check(&endpoint.address)).unwrap_or_default();
        self.checked.then(check)
    }
}

fn hosts(set: &EndpointSet) -> impl Iterator<Item = (&LocalityEndpoints, &Endpoint)> {
    set.localities.iter().flat_map(|group| group.endpoints.iter().map(move |endpoint| (group, endpoint)))
}

fn write_text(out: &mut String, seen: &Seen, cluster: &Cluster, dynamic: bool) -> std::fmt::Result {
    let name = &cluster.name;
    writeln!(out, "{name}::observability_name::{}", cluster.stat_name)?;
    let breakers = &cluster.circuit_breakers;
    for (priority, limits) in [("default_priority", &breakers.default), ("high_priority", &breakers.high)] {
        writeln!(out, "{name}::{priority}::max_connections::{}", limits.max_connections)?;
        writeln!(out, "{name}::{priority}::max_pending_requests::{}", limits.max_pending_requests)?;
        writeln!(out, "{name}::{priority}::max_requests::{}", limits.max_requests)?;
        writeln!(out, "{name}::{priority}::max_retries::{}", limits.max_retries)?;
    }
    writeln!(out, "{name}::added_via_api::{dynamic}")?;
    if let Discovery::Eds(service, _) = &cluster.discovery {
        writeln!(out, "{name}::eds_service_name::{service}")?;
    }
    for (group, endpoint) in hosts(&seen.endpoints) {
        let place = format!("{name}::{}", endpoint.address);
        writeln!(out, "{place}::hostname::{}", endpoint.hostname.as_deref().unwrap_or_default())?;
        writeln!(out, "{place}::health_flags::{}", health_flags(endpoint.health, seen.check(endpoint)))?;
        writeln!(out, "{place}::weight::{}", endpoint.weight)?;
        writeln!(out, "{place}::region::{}", group.locality.region)?;
        writeln!(out, "{place}::zone::{}", group.locality.zone)?;
        writeln!(out, "{place}::sub_zone::{}", group.locality.sub_zone)?;
        writeln!(out, "{place}::priority::{}", group.priority)?;
    }
    Ok(())
}

/// Envoy's flags, in its order.
fn health_flags(health: Health, check: Option<Check>) -> String {
    let configured = match health {
        Health::Healthy => "",
        Health::Degraded => "/degraded_eds_health",
        Health::Unhealthy => "/failed_eds_health",
        Health::Draining => "/eds_status_draining",
    };
    let (failed, pending) = match check {
        None | Some(Check::Passing) => ("", ""),
        Some(Check::Degraded) => ("/degraded_active_hc", ""),
        Some(Check::Pending) => ("/failed_active_hc", "/pending_active_hc"),
        Some(Check::Failing) => ("/failed_active_hc", ""),
        Some(Check::TimedOut) => ("/failed_active_hc", "/active_hc_timeout"),
    };
    let flags = [failed, configured, pending].concat();
    if flags.is_empty() { "healthy".to_owned() } else { flags }
}

pub fn health_name(health: Health) -> &'static str {
    match health {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
    }
}

fn status(seen: &Seen, cluster: &Cluster, dynamic: bool) -> Value {
    let mut status = json!({
        "name": &*cluster.name,
        "added_via_api": dynamic,
        "observability_name": &*cluster.stat_name,
        "circuit_breakers": { "thresholds": [
            thresholds("DEFAULT", &cluster.circuit_breakers.default),
            thresholds("HIGH", &cluster.circuit_breakers.high),
        ]},
    });
    if let Discovery::Eds(service, _) = &cluster.discovery {
        status["eds_service_name"] = (&**service).into();
    }
    let host = |(group, endpoint)| host(group, endpoint, seen.check(endpoint));
    status["host_statuses"] = hosts(&seen.endpoints).map(host).collect();
    status
}

fn thresholds(priority: &str, limits: &BreakerLimits) -> Value {
    json!({
        "priority": priority,
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.max_pending_requests,
        "max_requests": limits.max_requests,
        "max_retries": limits.max_retries,
    })
}

fn host(group: &LocalityEndpoints, endpoint: &Endpoint, check: Option<Check>) -> Value {
    let mut health = json!({ "eds_health_status": health_name(endpoint.health) });
    if check.is_some_and(|check| !matches!(check, Check::Passing | Check::Degraded)) {
        health["failed_active_health_check"] = true.into();
    }
    for (flag, state) in [
        ("pending_active_hc", Check::Pending),
        ("active_hc_timeout", Check::TimedOut),
        ("failed_active_degraded_check", Check::Degraded),
    ] {
        if check == Some(state) {
            health[flag] = true.into();
        }
    }
    json!({
        "address": address(&endpoint.address),
        "hostname": endpoint.hostname.as_deref().unwrap_or_default(),
        "health_status": health,
        "weight": endpoint.weight,
        "priority": group.priority,
        "locality": {
            "region": &*group.locality.region,
            "zone": &*group.locality.zone,
            "sub_zone": &*group.locality.sub_zone,
        },
    })
}

/// An address in Envoy's JSON.
pub fn address(address: &Address) -> Value {
    match address {
        Address::Ip(socket) => {
            json!({ "socket_address": { "address": socket.ip().to_string(), "port_value": socket.port() } })
        }
        Address::Name { host, port } => json!({ "socket_address": { "address": &**host, "port_value": port } }),
        Address::Pipe(path) => json!({ "pipe": { "path": &**path } }),
        Address::Internal(name) => json!({ "envoy_internal_address": { "server_listener_name": &**name } }),
    }
}
