//! The driver against a real gRPC server: subscribes, publishes, survives the server's death, says what it holds.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

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

fn answer(request: &DeltaDiscoveryRequest) -> Option<DeltaDiscoveryResponse> {
    // An acknowledgement, or a client that holds everything already.
    if !request.response_nonce.is_empty() || !request.initial_resource_versions.is_empty() {
        return None;
    }
    let messages = Messages::load();
    let (name, any) = match Kind::from_type_url(&request.type_url)? {
        Kind::Listener => ("out", pack(&messages.parse::<Listener>(LISTENER).unwrap())),
        Kind::Route => ("r", pack(&messages.parse::<RouteConfiguration>("{name: r}").unwrap())),
        _ => return None,
    };
    Some(DeltaDiscoveryResponse {
        type_url: request.type_url.clone(),
        nonce: format!("nonce-{name}"),
        resources: vec![Resource {
            name: name.to_owned(),
            version: "1".to_owned(),
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
        let mesh = request.metadata().get("x-mesh").map(|value| value.to_str().unwrap().to_owned());
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::unbounded_channel();
        let (seen, mut closing) = (self.seen.clone(), self.closing.clone());
        tokio::spawn(async move {
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
                    _ = closing.wait_for(|closed| *closed) => return,
                };
                let Ok(Some(request)) = request else { return };
                if let Some(response) = answer(&request) {
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
}

fn name(request: &DeltaDiscoveryRequest) -> &str {
    type_name(&request.type_url).rsplit('.').next().unwrap()
}

#[tokio::test]
async fn configuration_arrives_and_outlives_its_source() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let (close, closing) = watch::channel(false);
    let (address, serving) = start(ControlPlane { seen: seen.clone(), closing }).await;
    let target = Arc::new(Mutex::new(address));
    let loaded = tulle_xds::bootstrap::load(BOOTSTRAP).unwrap();
    let store = Arc::new(ConfigStore::new());
    let (published, mut publications) = mpsc::unbounded_channel();
    let watched = store.clone();
    let woken = published.clone();
    store.on_publish(move || {
        let _ = woken.send(());
    });
    let (events, mut happened) = mpsc::unbounded_channel();
    let driver = Driver {
        demands: Arc::default(),
        client: Arc::new(Mutex::new(Client::new(&loaded.bootstrap))),
        store: store.clone(),
        connect: To(target.clone()),
        initial_metadata: loaded.bootstrap.ads.as_ref().unwrap().initial_metadata.clone(),
        epoch: Instant::now(),
        seed: 1,
        report: Arc::new(move |event| {
            let _ = events.send(format!("{event:?}"));
        }),
    };
    let running = tokio::spawn(driver.run());

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
    loop {
        if happened.recv().await.unwrap().contains("Disconnected") {
            break;
        }
    }
    assert!(Arc::ptr_eq(&config, &watched.load()));

    // It comes back elsewhere: the client says what it holds, and nothing is sent again.
    let (_open, closing) = watch::channel(false);
    let (address, serving) = start(ControlPlane { seen, closing }).await;
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
    running.abort();
    serving.abort();
}
