//! The driver against a real gRPC server: subscribes, publishes, survives the server's death, says what it holds.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use futures_core::Stream;
use tokio::sync::{mpsc, watch};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tulle_config::{ConfigStore, Readiness};
use tulle_xds::ads::Client;
use tulle_xds::decode::{Kind, type_name};
use tulle_xds::driver::{Connect, Driver};
use tulle_xds::json::{Messages, pack};
use tulle_xds::keeping::{Disk, Keeping};
use tulle_xds::stream::Protocol;

const BOOTSTRAP: &str = r#"
node: {id: me, cluster: c}
dynamic_resources:
  lds_config: {ads: {}}
  ads_config: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}, initial_metadata: [{key: x-mesh, value: m}]}]}
static_resources: {clusters: [{name: xds-grpc, type: STATIC}]}
"#;

const LISTENER: &str = r#"
name: out
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
filter_chains:
- filters:
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: s
      rds: {route_config_name: r, config_source: {ads: {}}}
      http_filters: [{name: envoy.filters.http.router}]
"#;

type Responses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

/// Answers each first request of a type with what it has, and tells the test every request.
#[derive(Clone)]
struct ControlPlane {
    seen: mpsc::UnboundedSender<(Option<String>, DeltaDiscoveryRequest)>,
    /// True ends every stream.
    closing: watch::Receiver<bool>,
    /// What every stream is refused with.
    refusal: Option<Status>,
    /// The version of its routes.
    routes: &'static str,
}

struct Receiver(mpsc::UnboundedReceiver<Result<DeltaDiscoveryResponse, Status>>);

impl Stream for Receiver {
    type Item = Result<DeltaDiscoveryResponse, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

fn answer(request: &DeltaDiscoveryRequest, routes: &str) -> Option<DeltaDiscoveryResponse> {
    if !request.response_nonce.is_empty() {
        return None;
    }
    let messages = Messages::load();
    let (name, version, any) = match Kind::from_type_url(&request.type_url)? {
        Kind::Listener => ("out", "1", pack(&messages.parse::<Listener>(LISTENER).unwrap())),
        Kind::Route => {
            let made = format!("{{name: r, response_headers_to_remove: [x-{routes}]}}");
            ("r", routes, pack(&messages.parse::<RouteConfiguration>(&made).unwrap()))
        }
        _ => return None,
    };
    if request.initial_resource_versions.get(name).is_some_and(|held| held == version) {
        return None;
    }
    Some(DeltaDiscoveryResponse {
        type_url: request.type_url.clone(),
        nonce: format!("nonce-{name}"),
        resources: vec![Resource {
            name: name.to_owned(),
            version: version.to_owned(),
            resource: Some(any),
            ..Default::default()
        }],
        ..Default::default()
    })
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for ControlPlane {
    type StreamAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
    type DeltaAggregatedResourcesStream = Responses;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let mesh = request.metadata().get("x-mesh").map(|value| value.to_str().unwrap().to_owned());
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::unbounded_channel();
        let (seen, mut closing, routes) = (self.seen.clone(), self.closing.clone(), self.routes);
        tokio::spawn(async move {
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
                    _ = closing.wait_for(|closed| *closed) => return,
                };
                let Ok(Some(request)) = request else { return };
                if let Some(response) = answer(&request, routes) {
                    let _ = sender.send(Ok(response));
                }
                let _ = seen.send((mesh.clone(), request));
            }
        });
        Ok(Response::new(Box::pin(Receiver(receiver))))
    }
}

/// A server on a port of its own; dies when its task is aborted.
async fn start(control_plane: ControlPlane) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let serving = tokio::spawn(async move {
        let service = AggregatedDiscoveryServiceServer::new(control_plane);
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
    });
    (address, serving)
}

/// Dials whatever address stands there now.
struct To(Arc<Mutex<SocketAddr>>);

impl Connect for To {
    async fn connect(&self) -> Result<Channel, String> {
        let address = *self.0.lock().unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        endpoint.connect().await.map_err(|error| error.to_string())
    }

    fn identified(&self) -> bool {
        true
    }
}

/// A driver that runs, and what it tells.
struct Running {
    store: Arc<ConfigStore>,
    events: mpsc::UnboundedReceiver<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(target: &Arc<Mutex<SocketAddr>>, disk: Option<&Arc<Memory>>) -> Running {
        let loaded = tulle_xds::bootstrap::load(BOOTSTRAP).unwrap();
        let store = Arc::new(ConfigStore::new());
        let (told, events) = mpsc::unbounded_channel();
        let driver = Driver {
            demands: Arc::default(),
            client: Arc::new(Mutex::new(Client::new(&loaded.bootstrap))),
            store: store.clone(),
            connect: To(target.clone()),
            protocol: Protocol::new(loaded.bootstrap.ads.as_ref().unwrap().variant),
            initial_metadata: loaded.bootstrap.ads.as_ref().unwrap().initial_metadata.clone(),
            epoch: Instant::now(),
            seed: 1,
            report: Arc::new(move |event| {
                let _ = told.send(format!("{event:?}"));
            }),
            keeping: disk.map(|disk| {
                let mut keeping = Keeping::new(disk.clone());
                keeping.patience = Duration::from_millis(100);
                keeping.pause = Duration::ZERO;
                keeping
            }),
        };
        Running { store, events, task: tokio::spawn(driver.run()) }
    }

    /// Waits for an event whose text begins so, and returns the text.
    async fn event(&mut self, start: &str) -> String {
        loop {
            let event = self.events.recv().await.unwrap();
            if event.starts_with(start) {
                return event;
            }
        }
    }
}

/// A disk that may be taken away.
#[derive(Default)]
struct Memory(Mutex<Option<Vec<u8>>>);

impl Disk for Memory {
    fn load(&self) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save(&self, content: Vec<u8>) -> Result<(), String> {
        *self.0.lock().unwrap() = Some(content);
        Ok(())
    }
}

/// Where nobody listens.
async fn nowhere() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A disk as a driver leaves it that had its configuration from a control plane.
async fn kept() -> Arc<Memory> {
    let (seen, _requests) = mpsc::unbounded_channel();
    let (_open, closing) = watch::channel(false);
    let (address, serving) = start(ControlPlane { seen, closing, refusal: None, routes: "1" }).await;
    let disk = Arc::<Memory>::default();
    Running::start(&Arc::new(Mutex::new(address)), Some(&disk)).event("Saved").await;
    serving.abort();
    disk
}

fn name(request: &DeltaDiscoveryRequest) -> &str {
    type_name(&request.type_url).rsplit('.').next().unwrap()
}

#[tokio::test]
async fn configuration_arrives_and_outlives_its_source() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let (close, closing) = watch::channel(false);
    let (address, serving) = start(ControlPlane { seen: seen.clone(), closing, refusal: None, routes: "1" }).await;
    let target = Arc::new(Mutex::new(address));
    let mut running = Running::start(&target, None);
    let watched = running.store.clone();
    let (published, mut publications) = mpsc::unbounded_channel();
    watched.on_publish(move || {
        let _ = published.send(());
    });

    while watched.load().readiness != Readiness::Complete {
        publications.recv().await.unwrap();
    }
    let config = watched.load();
    assert!(config.listeners.contains_key("out") && config.routes.contains_key("r"));
    let (mesh, first) = requests.recv().await.unwrap();
    assert_eq!((mesh.as_deref(), name(&first)), (Some("m"), "Listener"));
    assert_eq!(first.node.unwrap().user_agent_name, "tulle-proxy");

    // The control plane dies: nothing changes for anybody who reads the configuration.
    serving.abort();
    close.send(true).unwrap();
    running.event("Disconnected").await;
    assert!(Arc::ptr_eq(&config, &watched.load()));

    // It comes back elsewhere: the client says what it holds, and nothing is sent again.
    let (_open, closing) = watch::channel(false);
    let (address, serving) = start(ControlPlane { seen, closing, refusal: None, routes: "1" }).await;
    *target.lock().unwrap() = address;
    let mut held = Vec::new();
    while held.len() < 2 {
        let (_, request) = requests.recv().await.unwrap();
        // Acknowledgements on the first stream may still be among them.
        if !request.initial_resource_versions.is_empty() {
            held.push((name(&request).to_owned(), request.initial_resource_versions));
        }
    }
    assert_eq!(held[0].0, "Listener");
    assert_eq!(held[0].1["out"], "1");
    assert_eq!(held[1].1["r"], "1");
    assert!(Arc::ptr_eq(&config, &watched.load()));
    serving.abort();
}

#[tokio::test]
async fn what_was_kept_is_used_when_nobody_listens_and_told_to_who_comes() {
    let disk = kept().await;
    let target = Arc::new(Mutex::new(nowhere().await));
    let mut running = Running::start(&target, Some(&disk));
    assert_eq!(running.event("Restored").await, "Restored { resources: 2 }");
    let config = running.store.load();
    assert_eq!(config.readiness, Readiness::Complete);
    assert!(config.listeners.contains_key("out") && config.routes.contains_key("r"));

    let (seen, mut requests) = mpsc::unbounded_channel();
    let (_open, closing) = watch::channel(false);
    let (address, serving) = start(ControlPlane { seen, closing, refusal: None, routes: "1" }).await;
    *target.lock().unwrap() = address;
    for held in ["out", "r"] {
        assert_eq!(requests.recv().await.unwrap().1.initial_resource_versions[held], "1");
    }
    serving.abort();
}

#[tokio::test]
async fn what_was_kept_is_used_when_the_control_plane_says_nothing() {
    let disk = kept().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut running = Running::start(&Arc::new(Mutex::new(silent.local_addr().unwrap())), Some(&disk));
    running.event("Restored").await;
    assert_eq!(running.store.load().readiness, Readiness::Complete);
}

#[tokio::test]
async fn a_proxy_that_is_turned_away_uses_nothing_that_was_kept() {
    let (seen, _requests) = mpsc::unbounded_channel();
    let (_open, closing) = watch::channel(false);
    let refusal = Some(Status::permission_denied("revoked"));
    let (address, serving) = start(ControlPlane { seen, closing, refusal, routes: "1" }).await;
    let target = Arc::new(Mutex::new(address));
    let disk = kept().await;
    let mut running = Running::start(&target, Some(&disk));
    assert!(running.event("Disconnected").await.contains("revoked"));
    serving.abort();
    *target.lock().unwrap() = nowhere().await;
    while running.event("").await.contains("revoked") {}
    assert_eq!(running.store.load().readiness, Readiness::Initializing);
}

#[tokio::test]
async fn what_is_of_no_use_is_told_and_left_alone() {
    let disk = Arc::new(Memory(Mutex::new(Some(b"rubbish".to_vec()))));
    let mut running = Running::start(&Arc::new(Mutex::new(nowhere().await)), Some(&disk));
    running.event("NotRestored").await;
    running.event("Disconnected").await;
    assert_eq!(running.store.load().readiness, Readiness::Initializing);
}

#[tokio::test]
async fn a_disk_that_was_emptied_is_filled_again() {
    let (seen, _requests) = mpsc::unbounded_channel();
    let (close, closing) = watch::channel(false);
    let target = Arc::new(Mutex::new(nowhere().await));
    let disk = kept().await;
    let mut running = Running::start(&target, Some(&disk));
    running.event("Restored").await;
    disk.0.lock().unwrap().take();
    // Routes of another version find nothing to add themselves to.
    let (address, serving) = start(ControlPlane { seen, closing, refusal: None, routes: "2" }).await;
    *target.lock().unwrap() = address;
    running.event("NotSaved").await;
    running.event("Saved").await;
    assert!(disk.0.lock().unwrap().is_some());
    close.send(true).unwrap();
    serving.abort();
}
