//! One stream to a control plane, in whichever variant of the protocol it speaks.

use std::sync::{Mutex, PoisonError};

use envoy_types::pb::envoy::service::discovery::v3 as ads_pb;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tulle_config::Variant;

use crate::ads::world::World;

/// The largest response taken: a mesh of hundreds of thousands of endpoints fits. It is held once while it is decoded.
const MAX_MESSAGE: usize = 128 << 20;

/// The protocol as a control plane speaks it; `World` is what it remembers from one stream to the next.
pub enum Protocol {
    Delta,
    World(Mutex<World>),
}

impl Protocol {
    pub fn new(variant: Variant) -> Protocol {
        match variant {
            Variant::Delta => Protocol::Delta,
            Variant::StateOfTheWorld => Protocol::World(Mutex::default()),
        }
    }

    /// Both halves of a new stream, which is opened by [`Call::open`].
    pub fn stream(&self) -> (Sender<'_>, Call<'_>) {
        match self {
            Protocol::Delta => {
                let (sender, receiver) = unbounded_channel();
                (Sender::Delta(sender), Call::Delta(Requests(receiver)))
            }
            Protocol::World(world) => {
                world.lock().unwrap_or_else(PoisonError::into_inner).reset();
                let (sender, receiver) = unbounded_channel();
                (Sender::World(sender, world), Call::World(Requests(receiver), world))
            }
        }
    }
}

/// Where requests go.
pub enum Sender<'p> {
    Delta(UnboundedSender<ads_pb::DeltaDiscoveryRequest>),
    World(UnboundedSender<ads_pb::DiscoveryRequest>, &'p Mutex<World>),
}

impl Sender<'_> {
    /// Whether the stream still takes requests.
    pub fn send(&self, request: ads_pb::DeltaDiscoveryRequest) -> bool {
        match self {
            Sender::Delta(sender) => sender.send(request).is_ok(),
            Sender::World(sender, world) => {
                let request = world.lock().unwrap_or_else(PoisonError::into_inner).request(request);
                sender.send(request).is_ok()
            }
        }
    }
}

/// A call that has not been made.
pub enum Call<'p> {
    Delta(Requests<ads_pb::DeltaDiscoveryRequest>),
    World(Requests<ads_pb::DiscoveryRequest>, &'p Mutex<World>),
}

impl<'p> Call<'p> {
    /// Makes it; returns when the server has answered its headers.
    pub async fn open(self, channel: Channel, metadata: MetadataMap) -> Result<Responses<'p>, Status> {
        let mut service = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        Ok(match self {
            Call::Delta(requests) => {
                let request = Request::from_parts(metadata, tonic::Extensions::new(), requests);
                Responses::Delta(service.delta_aggregated_resources(request).await?.into_inner())
            }
            Call::World(requests, world) => {
                let request = Request::from_parts(metadata, tonic::Extensions::new(), requests);
                Responses::World(service.stream_aggregated_resources(request).await?.into_inner(), world)
            }
        })
    }
}

/// Where responses come from.
pub enum Responses<'p> {
    Delta(Streaming<ads_pb::DeltaDiscoveryResponse>),
    World(Streaming<ads_pb::DiscoveryResponse>, &'p Mutex<World>),
}

impl Responses<'_> {
    /// The next one; `None` at the end of the stream.
    pub async fn message(&mut self) -> Result<Option<ads_pb::DeltaDiscoveryResponse>, Status> {
        match self {
            Responses::Delta(responses) => responses.message().await,
            Responses::World(responses, world) => {
                let response = responses.message().await?;
                Ok(response.map(|response| world.lock().unwrap_or_else(PoisonError::into_inner).response(response)))
            }
        }
    }
}

/// The outgoing half of the stream.
pub struct Requests<T>(UnboundedReceiver<T>);

impl<T> futures_core::Stream for Requests<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}
