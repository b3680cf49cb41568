//! A proxy in this process, on ports of the system's choice, configured by a static bootstrap.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod slow;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tulle_config::ConfigStore;
use tulle_connect::Breakers;
use tulle_identity::TlsContexts;
use tulle_proxy::worker::doors::Doors;
use tulle_proxy::worker::{Launch, Workers};
use tulle_telemetry::Registry;
use tulle_xds::ads::Client;

pub struct Proxy {
    pub store: Arc<ConfigStore>,
    registry: Registry,
    workers: Workers,
}

impl Proxy {
    pub async fn start(bootstrap: &str) -> Proxy {
        let loaded = tulle_xds::bootstrap::load(bootstrap).unwrap();
        let launch = Launch {
            local_cluster: None,
            store: Arc::new(ConfigStore::new()),
            registry: Registry::new(),
            contexts: Arc::new(TlsContexts::new(Arc::default())),
            node: loaded.bootstrap.node.clone(),
            hosts: Arc::default(),
            breakers: Arc::new(Breakers::for_workers(1)),
            overload: None,
            doors: Arc::new(Doors::new(None, &loaded.bootstrap.connections, 1024)),
            keys: Arc::default(),
            demands: Arc::default(),
            principal: None,
            started: Instant::now(),
            seed: 7,
        };
        let config = Client::new(&loaded.bootstrap).take_update().unwrap();
        let generation = launch.store.publish(config);
        let workers = Workers::start(&launch, 1).unwrap();
        workers.status.applied(generation).await;
        assert_eq!(workers.status.failures(), Vec::<String>::new());
        Proxy { store: launch.store, registry: launch.registry, workers }
    }

    /// Replaces the configuration, as a control plane would.
    pub async fn publish(&self, bootstrap: &str) {
        let loaded = tulle_xds::bootstrap::load(bootstrap).unwrap();
        let generation = self.store.publish(Client::new(&loaded.bootstrap).take_update().unwrap());
        self.workers.status.applied(generation).await;
    }

    pub fn address(&self) -> SocketAddr {
        self.workers.status.bound()[0].1
    }

    /// What a scrape of its metrics says.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        tulle_telemetry::prometheus::render(&self.registry, &mut out);
        out
    }

    pub fn drain(&self) {
        self.workers.status.drain(Duration::from_secs(10));
    }

    /// Waits until the workers have ended.
    pub async fn ended(self) {
        tokio::task::spawn_blocking(move || self.workers.join()).await.unwrap();
    }
}

/// One HTTP listener; `routes` and `clusters` are YAML flow lists.
pub fn http(routes: &str, clusters: &str) -> String {
    format!(
        r#"{{static_resources: {{clusters: {clusters}, listeners: [{{name: main,
  address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}},
  filter_chains: [{{filters: [{{name: hcm, typed_config: {{
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
    stat_prefix: main, upgrade_configs: [{{upgrade_type: websocket}}], http2_protocol_options: {{allow_connect: true}},
    http_filters: [{{name: router, typed_config: {{
      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}],
    route_config: {{name: local, virtual_hosts: [{{name: all, domains: ["*"], routes: {routes}}}]}}}}}}]}}]}}]}}}}"#
    )
}

/// A route of everything to `app`.
pub const ALL: &str = "[{match: {prefix: /}, route: {cluster: app}}]";

/// A static cluster. `more` is YAML that begins with a comma, or nothing.
pub fn cluster(name: &str, addresses: &[SocketAddr], more: &str) -> String {
    let endpoint = |at: &SocketAddr| {
        format!("{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}", at.ip(), at.port())
    };
    let endpoints: Vec<String> = addresses.iter().map(endpoint).collect();
    format!(
        "{{name: {name}, type: STATIC{more}, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{}]}}]}}}}",
        endpoints.join(", ")
    )
}

/// YAML that makes a cluster speak HTTP/2.
pub const HTTP2: &str = r#", typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {
  "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions,
  explicit_http_config: {http2_protocol_options: {}}}}"#;
