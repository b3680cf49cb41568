//! `/config_dump`: the configuration in force, in the shape of Envoy's `envoy.admin.v3.ConfigDump`.

use std::sync::PoisonError;

use serde_json::{Value, json};
use tulle_balance::LocalityEndpoints;
use tulle_core::{Nanos, UnixNanos};
use tulle_xds::ads::Client;
use tulle_xds::ads::cache::{Entry, Refusal, Stage};
use tulle_xds::bootstrap::Packed;
use tulle_xds::decode::Kind;
use tulle_xds::json::Messages;

use super::timestamp::rfc3339;
use super::{Admin, Query, clusters};

const REDACTED: &str = "[redacted]";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// Fields whose content is a secret, wherever they are.
const SECRET_FIELDS: [&str; 5] = ["private_key", "password", "generic_secret", "session_ticket_keys", "pkcs12"];

/// Builds the dump. The descriptors it needs live no longer than the request.
pub fn dump(admin: &Admin, query: Query<'_>) -> Value {
    let messages = Messages::load();
    let client = admin.client.lock().unwrap_or_else(PoisonError::into_inner);
    let source = Source { admin, messages: &messages, client: &client };
    let mut configs = vec![
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "bootstrap": source.untyped(&admin.bootstrap),
            "last_updated": rfc3339(admin.started),
        }),
        source.clusters(),
        source.listeners(),
        source.routes(),
        source.scopes(),
        source.extensions(),
        source.secrets(),
    ];
    if query.has("include_eds") {
        configs.push(endpoints(admin));
    }
    json!({ "configs": configs })
}

struct Source<'a> {
    admin: &'a Admin,
    messages: &'a Messages,
    client: &'a Client,
}

impl Source<'_> {
    fn clusters(&self) -> Value {
        let entries = self.client.cache().entries(Kind::Cluster);
        let of = |stage: Stage| -> Vec<Value> {
            let matching = entries.iter().filter(|(_, _, is)| *is == stage);
            matching.map(|(_, entry, _)| self.state("cluster", entry)).collect()
        };
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "static_clusters": self.statics("clusters", "cluster", CLUSTER),
            "dynamic_active_clusters": of(Stage::Active),
            "dynamic_warming_clusters": of(Stage::Warming),
        })
    }

    fn listeners(&self) -> Value {
        let cache = self.client.cache();
        let refusals = cache.refusals(Kind::Listener);
        let mut dynamic: Vec<Value> = Vec::new();
        for (name, entry, stage) in cache.entries(Kind::Listener) {
            let state = self.state("listener", entry);
            let mut listener = match stage {
                Stage::Active => json!({ "name": &**name, "active_state": state }),
                Stage::Warming => json!({ "name": &**name, "warming_state": state }),
            };
            if let Some((_, refusal)) = refusals.iter().find(|(refused, _)| *refused == name) {
                listener["error_state"] = self.error_state(refusal);
            }
            dynamic.push(listener);
        }
        for (name, refusal) in &refusals {
            if !dynamic.iter().any(|listener| listener["name"] == ***name) {
                dynamic.push(json!({ "name": &***name, "error_state": self.error_state(refusal) }));
            }
        }
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
            "static_listeners": self.statics("listeners", "listener", LISTENER),
            "dynamic_listeners": dynamic,
        })
    }

    fn routes(&self) -> Value {
        let entries = self.client.cache().entries(Kind::Route);
        let dynamic: Vec<Value> = entries.iter().map(|(_, entry, _)| self.state("route_config", entry)).collect();
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
            "dynamic_route_configs": dynamic,
        })
    }

    fn scopes(&self) -> Value {
        let entries = self.client.cache().entries(Kind::Scope);
        let dynamic = entries.iter().map(|(name, entry, _)| {
            json!({
                "name": &***name,
                "version_info": entry.version,
                "scoped_route_configs": entry.packed.iter().map(|packed| self.typed(packed)).collect::<Vec<_>>(),
                "last_updated": self.time(entry.updated),
            })
        });
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump",
            "dynamic_scoped_route_configs": dynamic.collect::<Vec<_>>(),
        })
    }

    /// Settings of filters, whose secrets are blanked like all others.
    fn extensions(&self) -> Value {
        let entries = self.client.cache().entries(Kind::Extension);
        let filters: Vec<Value> = entries.iter().map(|(_, entry, _)| self.state("ecds_filter", entry)).collect();
        json!({ "@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump", "ecds_filters": filters })
    }

    /// Names only: what a secret holds is nobody's business here.
    fn secrets(&self) -> Value {
        let entries = self.client.cache().entries(Kind::Secret);
        let dynamic: Vec<Value> = entries
            .iter()
            .map(|(name, entry, _)| {
                json!({
                    "name": &***name,
                    "version_info": entry.version,
                    "last_updated": self.time(entry.updated),
                    "secret": { "name": &***name },
                })
            })
            .collect();
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
            "dynamic_active_secrets": dynamic,
        })
    }

    /// The bootstrap's resources of one kind, as they stand in it.
    fn statics(&self, list: &str, field: &str, type_url: &str) -> Vec<Value> {
        let mut whole = self.typed(&self.admin.bootstrap);
        let Some(Value::Array(found)) = whole.pointer_mut(&format!("/static_resources/{list}")).map(Value::take) else {
            return Vec::new();
        };
        found
            .into_iter()
            .map(|mut one| {
                one["@type"] = type_url.into();
                json!({ field: one, "last_updated": rfc3339(self.admin.started) })
            })
            .collect()
    }

    fn state(&self, field: &str, entry: &Entry) -> Value {
        json!({
            "version_info": entry.version,
            field: entry.packed.as_ref().map(|packed| self.typed(packed)),
            "last_updated": self.time(entry.updated),
        })
    }

    fn error_state(&self, refusal: &Refusal) -> Value {
        json!({
            "details": refusal.details,
            "version_info": refusal.version,
            "last_update_attempt": self.time(refusal.at),
        })
    }

    fn typed(&self, packed: &Packed) -> Value {
        let mut value = self.messages.any_to_json(&packed.type_url, &packed.bytes);
        redact(&mut value);
        value
    }

    fn untyped(&self, packed: &Packed) -> Value {
        let mut value = self.typed(packed);
        if let Value::Object(fields) = &mut value {
            fields.remove("@type");
        }
        value
    }

    /// Times in the cache count from the start of the process.
    fn time(&self, at: Nanos) -> String {
        rfc3339(UnixNanos(self.admin.started.0.saturating_add(at.0)))
    }
}

/// Blanks every value under a secret's field, at any depth; file names stay.
fn redact(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => {
            for (name, inner) in fields {
                if SECRET_FIELDS.contains(&name.as_str()) { blank(inner) } else { redact(inner) }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn blank(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(blank),
        Value::Object(fields) => {
            fields.iter_mut().filter(|(name, _)| *name != "filename").for_each(|(_, inner)| blank(inner));
        }
        other => *other = Value::String(REDACTED.to_owned()),
    }
}

/// Endpoints come from the typed configuration: their messages are not kept.
fn endpoints(admin: &Admin) -> Value {
    let config = admin.config();
    let mut names: Vec<_> = config.endpoints.keys().collect();
    names.sort();
    let dynamic: Vec<Value> = names
        .into_iter()
        .map(|name| {
            let groups: Vec<Value> = config.endpoints[name].localities.iter().map(locality).collect();
            json!({ "endpoint_config": {
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": &**name,
                "endpoints": groups,
            }})
        })
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump",
        "dynamic_endpoint_configs": dynamic,
    })
}

fn locality(group: &LocalityEndpoints) -> Value {
    let endpoints: Vec<Value> = group
        .endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "endpoint": { "address": clusters::address(&endpoint.address) },
                "health_status": clusters::health_name(endpoint.health),
                "load_balancing_weight": endpoint.weight,
            })
        })
        .collect();
    json!({
        "locality": {
            "region": &*group.locality.region,
            "zone": &*group.locality.zone,
            "sub_zone": &*group.locality.sub_zone,
        },
        "lb_endpoints": endpoints,
        "load_balancing_weight": group.weight,
        "priority": group.priority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blanked_at_any_depth_and_nothing_else_is() {
        let mut value = json!({
            "tls_certificates": [{
                "certificate_chain": {"inline_string": "PUBLIC"},
                "private_key": {"inline_string": "SECRET"},
                "password": {"filename": "/etc/password"},
            }],
            "generic_secret": {"secrets": {"a": {"inline_bytes": "SECRET"}}},
        });
        redact(&mut value);
        let text = value.to_string();
        assert!(!text.contains("SECRET"), "{text}");
        assert!(text.contains("PUBLIC") && text.contains("/etc/password"), "{text}");
    }
}
