//! Resources of all kinds: what the differential cases are made of.

use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage};
use serde_json::{Map, Value, json};
use tulle_xds::decode::Kind;

const TYPE: &str = "type.googleapis.com/";

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Every resource of every case.
pub fn resources(pool: &DescriptorPool) -> Vec<(Kind, DynamicMessage)> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../tests/differential/cases");
    let paths = files(&cases).iter().filter(|path| path.is_dir()).flat_map(|folder| files(folder)).collect::<Vec<_>>();
    paths
        .iter()
        .flat_map(|path| of_case(path))
        .filter_map(|(kind, value)| Some((kind, message(pool, kind, &value)?)))
        .collect()
}

fn message(pool: &DescriptorPool, kind: Kind, value: &Value) -> Option<DynamicMessage> {
    let name = kind.type_url().strip_prefix(TYPE)?;
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(pool.get_message_by_name(name)?, value, &options).ok()
}

fn of_case(path: &Path) -> Vec<(Kind, Value)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut yaml: serde_norway::Value =
        serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    yaml.apply_merge().unwrap();
    let case = filled(serde_json::to_value(yaml).unwrap());
    let mut found: Vec<(Kind, Value)> = Vec::new();
    for (name, given) in case["clusters"].as_object().into_iter().flatten() {
        found.push((Kind::Cluster, cluster(name, given)));
    }
    let hosts = match &case["virtual_hosts"] {
        Value::Array(hosts) => json!(hosts),
        _ => {
            json!([{"name": "all", "domains": ["*"], "routes": case["routes"].as_array().cloned().unwrap_or_default()}])
        }
    };
    let routes = json!({"name": "routes", "virtual_hosts": hosts});
    found.push((Kind::Route, routes.clone()));
    let main = json!({"main": {}});
    for (name, given) in case["listeners"].as_object().or(main.as_object()).into_iter().flatten() {
        found.push((Kind::Listener, listener(name, given, &case["hcm"], &routes)));
    }
    for sent in case["discovery"].as_array().into_iter().flatten() {
        let mut sent = sent.clone();
        let kind = sent.as_object_mut().and_then(|fields| fields.remove("@type"));
        let kind = kind.as_ref().and_then(Value::as_str).and_then(Kind::from_type_url);
        found.extend(kind.map(|kind| (kind, sent)));
    }
    found
}

/// What stands for a port becomes one, what stands for a file a certificate that needs no file.
fn filled(value: Value) -> Value {
    match value {
        Value::String(text)
            if text.starts_with("${port:") || text.starts_with("${listener:") || text.starts_with("${own:") =>
        {
            json!(1)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(filled).collect()),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(key, value)| (key, filled(value))).collect()),
        other => other,
    }
}

fn over(mut made: Map<String, Value>, given: &Value) -> Value {
    made.extend(given.as_object().cloned().into_iter().flatten());
    Value::Object(made)
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn cluster(name: &str, given: &Value) -> Value {
    let host = json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}});
    let made = json!({"name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [host]}]}});
    let mut given = object(given.clone());
    given.remove("endpoints");
    over(object(made), &Value::Object(given))
}

fn listener(name: &str, given: &Value, hcm: &Value, routes: &Value) -> Value {
    let mut given = object(given.clone());
    let own = given.remove("hcm").unwrap_or_default();
    let mut routes = routes.clone();
    if let Some(own) = given.remove("routes") {
        routes["virtual_hosts"][0]["routes"] = own;
    }
    let manager = json!({
        "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "test",
        "route_config": routes,
        "http_filters": [{"name": "router", "typed_config": {"@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router")}}],
        "access_log": [{"name": "file", "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"), "path": "log"}}],
    });
    let manager = over(object(over(object(manager), hcm)), &own);
    let filters = given.remove("filters").unwrap_or_else(|| json!([{"name": "hcm", "typed_config": manager}]));
    let mut chain = json!({"filters": filters});
    if let Some(socket) = given.remove("transport_socket") {
        chain["transport_socket"] = socket;
    }
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    over(object(json!({"name": name, "address": address, "filter_chains": [chain]})), &Value::Object(given))
}
