//! The admin endpoint's answers, and one round over a real socket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tulle_config::{ConfigStore, Readiness};
use tulle_connect::Breakers;
use tulle_core::{Str, UnixNanos};
use tulle_identity::{Identity, IdentityCell};
use tulle_telemetry::Registry;
use tulle_xds::ads::Client;

use super::{Admin, Hooks};
use crate::worker::hosts::{Check, ClusterHosts, Known};

const BOOTSTRAP: &str = r#"
node: {id: sidecar~1, cluster: backend-v1.default, metadata: {NAMESPACE: default}}
static_resources:
  secrets:
  - name: web
    tls_certificate: {certificate_chain: {inline_string: CHAIN}, private_key: {inline_string: TOPSECRET}}
  clusters:
  - name: app
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 7}]}
    load_assignment:
      cluster_name: app
      endpoints:
      - locality: {region: eu}
        lb_endpoints:
        - endpoint: {hostname: app.example, address: {socket_address: {address: 127.0.0.1, port_value: 9001}}}
          health_status: DRAINING
"#;

#[derive(Default)]
struct Fake {
    applied: AtomicBool,
    failures: Mutex<Vec<String>>,
    drained: AtomicBool,
    hosts: Mutex<Known>,
}

impl Hooks for Fake {
    fn bound(&self) -> Vec<(Str, SocketAddr)> {
        vec![("outbound".into(), "127.0.0.1:15001".parse().unwrap())]
    }

    fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    fn applied(&self) -> bool {
        self.applied.load(Ordering::Relaxed)
    }

    fn hosts(&self) -> Known {
        self.hosts.lock().unwrap().clone()
    }

    fn draining(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    fn drain_listeners(&self) {
        self.drained.store(true, Ordering::Relaxed);
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        if level == "debug" { Ok(()) } else { Err(format!("{level:?} is not a level")) }
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn now(&self) -> UnixNanos {
        UnixNanos(1_000_000_012_000_000_000)
    }
}

fn admin() -> (Arc<Admin>, Arc<Fake>) {
    admin_of(BOOTSTRAP)
}

fn admin_of(bootstrap: &str) -> (Arc<Admin>, Arc<Fake>) {
    let loaded = tulle_xds::bootstrap::load(bootstrap).unwrap();
    let mut client = Client::new(&loaded.bootstrap);
    let store = Arc::new(ConfigStore::new());
    store.publish(client.take_update().unwrap());
    assert_eq!(store.load().readiness, Readiness::Complete);
    let hooks = Arc::new(Fake::default());
    let admin = Admin {
        store,
        registry: Registry::new(),
        client: Arc::new(Mutex::new(client)),
        identity: Arc::new(IdentityCell::default()),
        node: loaded.bootstrap.node,
        bootstrap: loaded.packed,
        started: UnixNanos(1_000_000_000_000_000_000),
        hooks: hooks.clone(),
        failed: AtomicBool::new(false),
        breakers: Arc::new(Breakers::for_workers(1)),
    };
    (Arc::new(admin), hooks)
}

fn get(admin: &Admin, path: &str) -> (StatusCode, String) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let answer = admin.answer(&Method::GET, path, query);
    (answer.status, answer.body)
}

fn json(admin: &Admin, path: &str) -> serde_json::Value {
    serde_json::from_str(&get(admin, path).1).unwrap()
}

/// Ended on 9 September 2001 at 01:46:40 UTC.
const EXPIRED: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBIDCBx6ADAgECAgEBMAoGCCqGSM49BAMCMAAwHhcNMDEwMTAxMDAwMDAwWhcN\n\
MDEwOTA5MDE0NjQwWjAAMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9wa4JvC8\n\
yAmRbfXqUpspqyVp7fM3MeysHpSo7IiMLmTLMqzINm/IDsXUrOjSXlYaSsAwJvhQ\n\
y9sAhuqpNTyNsKMyMDAwLgYDVR0RAQH/BCQwIoYgc3BpZmZlOi8vY2x1c3Rlci5s\n\
b2NhbC9ucy9hL3NhL2IwCgYIKoZIzj0EAwIDSAAwRQIhAKl3HX8gkIaUd8plodMs\n\
uYnw0RhJZDJV/TtzlUDjJTj7AiApu/NpkNJZPgXAnM7ACx3KASoDTZ16xHdk5bx0\n\
SyqB/A==\n\
-----END CERTIFICATE-----\n\
";

#[test]
fn a_proxy_whose_certificate_has_expired_is_not_ready_and_says_when_it_did() {
    let (admin, hooks) = admin();
    hooks.applied.store(true, Ordering::Relaxed);
    assert_eq!(get(&admin, "/ready").0, StatusCode::OK);
    assert!(!get(&admin, "/stats").1.contains("tulle_identity"));
    let leaf = CertificateDer::from_pem_slice(EXPIRED.as_bytes()).unwrap();
    admin.identity.set(Identity {
        chain: vec![leaf],
        key: PrivatePkcs8KeyDer::from(Vec::new()).into(),
        roots: Vec::new(),
        federated: Vec::new(),
        revoked: Arc::default(),
    });
    let (status, body) = get(&admin, "/ready");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("has expired"), "{body}");
    assert!(get(&admin, "/stats").1.contains("tulle_identity_expiry_timestamp_seconds: 1000000000\n"));
}

#[test]
fn readiness_follows_what_workers_have_bound() {
    let (admin, hooks) = admin();
    assert_eq!(get(&admin, "/ready"), (StatusCode::SERVICE_UNAVAILABLE, "INITIALIZING\n".to_owned()));
    hooks.applied.store(true, Ordering::Relaxed);
    assert_eq!(get(&admin, "/ready"), (StatusCode::OK, "LIVE\n".to_owned()));
    hooks.failures.lock().unwrap().push("outbound: address in use".to_owned());
    let (status, body) = get(&admin, "/ready");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("address in use"), "{body}");
}

#[test]
fn health_can_be_failed_and_restored_by_post_only() {
    let (admin, hooks) = admin();
    hooks.applied.store(true, Ordering::Relaxed);
    assert_eq!(get(&admin, "/healthcheck/fail").0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(get(&admin, "/ready").0, StatusCode::OK);
    admin.answer(&Method::POST, "/healthcheck/fail", "");
    assert_eq!(get(&admin, "/ready").1, "DRAINING\n");
    admin.answer(&Method::POST, "/healthcheck/ok", "");
    assert_eq!(get(&admin, "/ready").0, StatusCode::OK);
    admin.answer(&Method::POST, "/drain_listeners", "");
    assert_eq!(get(&admin, "/ready").1, "DRAINING\n");
}

#[test]
fn the_dump_has_envoys_shape_and_no_secret() {
    let (admin, _) = admin();
    let (_, text) = get(&admin, "/config_dump?include_eds");
    assert!(!text.contains("TOPSECRET") && text.contains("[redacted]"), "{text}");
    let dump: serde_json::Value = serde_json::from_str(&text).unwrap();
    let types: Vec<_> = dump["configs"].as_array().unwrap().iter().map(|one| one["@type"].as_str().unwrap()).collect();
    let short: Vec<_> = types.iter().map(|name| name.rsplit('.').next().unwrap()).collect();
    let expected = [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "ListenersConfigDump",
        "RoutesConfigDump",
        "ScopedRoutesConfigDump",
        "EcdsConfigDump",
        "SecretsConfigDump",
        "EndpointsConfigDump",
    ];
    assert_eq!(short, expected);
    assert_eq!(dump["configs"][0]["bootstrap"]["node"]["id"], "sidecar~1");
    assert_eq!(dump["configs"][1]["static_clusters"][0]["cluster"]["name"], "app");
    assert_eq!(dump["configs"][0]["last_updated"], "2001-09-09T01:46:40.000Z");
}

#[test]
fn clusters_in_both_forms() {
    let (admin, _) = admin();
    let (_, text) = get(&admin, "/clusters");
    for line in [
        "app::default_priority::max_connections::7",
        "app::high_priority::max_connections::1024",
        "app::added_via_api::false",
        "app::127.0.0.1:9001::hostname::app.example",
        "app::127.0.0.1:9001::health_flags::/eds_status_draining",
        "app::127.0.0.1:9001::region::eu",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    let host = &json(&admin, "/clusters?format=json")["cluster_statuses"][0]["host_statuses"][0];
    assert_eq!(host["address"]["socket_address"]["port_value"], 9001);
    assert_eq!(host["health_status"]["eds_health_status"], "DRAINING");
}

#[test]
fn the_rest_of_the_pages() {
    let (admin, _) = admin();
    assert_eq!(get(&admin, "/listeners").1, "outbound::127.0.0.1:15001\n");
    assert_eq!(json(&admin, "/listeners?format=json")["listener_statuses"][0]["name"], "outbound");
    assert_eq!(json(&admin, "/server_info")["uptime_current_epoch"], "12s");
    assert_eq!(json(&admin, "/certs"), serde_json::json!({ "certificates": [] }));
    assert_eq!(admin.answer(&Method::POST, "/logging", "level=debug").status, StatusCode::OK);
    assert_eq!(admin.answer(&Method::POST, "/logging", "level=loud").status, StatusCode::BAD_REQUEST);
    assert_eq!(admin.answer(&Method::POST, "/logging", "").status, StatusCode::BAD_REQUEST);
    assert!(get(&admin, "/help").1.contains("/stats/prometheus"));
    assert_eq!(get(&admin, "/nothing").0, StatusCode::NOT_FOUND);
}

#[test]
fn statistics_in_both_forms() {
    let (admin, _) = admin();
    let counter =
        admin.registry.counter("envoy_cluster_upstream_rq_total", "Requests.", &[("envoy_cluster_name", "app")]);
    let zero = admin.registry.counter("envoy_cluster_upstream_rq_retry", "Retries.", &[("envoy_cluster_name", "app")]);
    let sheet = admin.registry.sheet();
    sheet.add(counter, 5);
    sheet.add(zero, 0);
    assert!(
        get(&admin, "/stats/prometheus").1.contains("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"app\"} 5")
    );
    assert_eq!(get(&admin, "/stats?usedonly").1, "cluster.app.upstream_rq_total: 5\n");
    assert_eq!(get(&admin, "/stats?filter=retry").1, "cluster.app.upstream_rq_retry: 0\n");
}

#[tokio::test]
async fn it_is_served_over_http() {
    let (admin, _) = admin();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(super::server::serve(listener, admin));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /listeners HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(
        response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("outbound::127.0.0.1:15001\n"),
        "{response}"
    );
    serving.abort();
}

#[test]
fn clusters_show_how_health_checks_stand_and_what_names_resolve_to() {
    let text = r#"
static_resources:
  clusters:
  - name: named
    type: STRICT_DNS
    load_assignment:
      cluster_name: named
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost, port_value: 81}}}}]}]
    health_checks: [{timeout: 1s, interval: 5s, unhealthy_threshold: 3, healthy_threshold: 2, tcp_health_check: {}}]
"#;
    let (admin, hooks) = admin_of(text);
    assert!(!get(&admin, "/clusters").1.contains("health_flags"));
    let host: tulle_core::Address = "127.0.0.1:81".parse::<SocketAddr>().unwrap().into();
    let set = tulle_balance::EndpointSet::flat(vec![tulle_balance::Endpoint::new(host.clone())]);
    for (check, flags, json_flag) in [
        (Check::Pending, "/failed_active_hc/pending_active_hc", Some("pending_active_hc")),
        (Check::Failing, "/failed_active_hc", Some("failed_active_health_check")),
        (Check::TimedOut, "/failed_active_hc/active_hc_timeout", Some("active_hc_timeout")),
        (Check::Passing, "healthy", None),
    ] {
        let checks = [(host.clone(), check)].into();
        let hosts = ClusterHosts { resolved: Some(Arc::new(set.clone())), checks, settled: true };
        *hooks.hosts.lock().unwrap() = Arc::new([("named".into(), Arc::new(hosts))].into());
        assert!(get(&admin, "/clusters").1.contains(&format!("named::127.0.0.1:81::health_flags::{flags}\n")));
        let health =
            json(&admin, "/clusters?format=json")["cluster_statuses"][0]["host_statuses"][0]["health_status"].clone();
        match json_flag {
            Some(flag) => assert_eq!(health[flag], true),
            None => assert_eq!(health["failed_active_health_check"], serde_json::Value::Null),
        }
    }
}
