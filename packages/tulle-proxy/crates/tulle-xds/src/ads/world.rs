//! The state-of-the-world protocol, for control planes that speak no other: requests and responses of the delta protocol
//! are turned into its own and back, so that the client need not know it.
//!
//! A request names everything that is wanted of a type, and the last version that was taken. A response holds what is in
//! that version: all listeners and clusters, and of the other types those that changed.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::service::discovery::v3 as ads_pb;
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;

use crate::decode::{Kind, type_name};

const ALL: &str = "*";
/// The wrapper in which a resource may come, with its time to live.
const WRAPPER: &str = "envoy.service.discovery.v3.Resource";

/// Every resource type has its name in the first field.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Default)]
struct Type {
    /// Everything of the type is wanted.
    all: bool,
    names: BTreeSet<String>,
    /// The last one taken, which outlives the stream.
    version: String,
    nonce: String,
    /// Versions of responses not answered yet, by nonce.
    unanswered: BTreeMap<String, String>,
    /// What the last response with everything had.
    held: BTreeSet<String>,
}

/// The protocol's state over all streams.
#[derive(Default)]
pub struct World {
    types: BTreeMap<String, Type>,
}

impl World {
    /// A new stream: nothing has been said on it.
    pub fn reset(&mut self) {
        for state in self.types.values_mut() {
            state.all = false;
            state.names.clear();
            state.nonce.clear();
            state.unanswered.clear();
        }
    }

    /// The request that says what `delta` says.
    pub fn request(&mut self, delta: ads_pb::DeltaDiscoveryRequest) -> ads_pb::DiscoveryRequest {
        let state = self.types.entry(delta.type_url.clone()).or_default();
        let names_none = delta.resource_names_subscribe.is_empty() && delta.resource_names_unsubscribe.is_empty();
        if names_none && delta.response_nonce.is_empty() && state.names.is_empty() {
            state.all = true;
        }
        for name in delta.resource_names_subscribe {
            match name == ALL {
                true => state.all = true,
                false => _ = state.names.insert(name),
            }
        }
        for name in &delta.resource_names_unsubscribe {
            state.names.remove(name);
        }
        if let Some(version) = state.unanswered.remove(&delta.response_nonce)
            && delta.error_detail.is_none()
        {
            state.version = version;
        }
        // Where everything is wanted, no names say so; with names beside it, a star does.
        let all = (state.all && !state.names.is_empty()).then(|| ALL.to_owned());
        ads_pb::DiscoveryRequest {
            version_info: state.version.clone(),
            node: delta.node,
            resource_names: all.into_iter().chain(state.names.iter().cloned()).collect(),
            type_url: delta.type_url,
            response_nonce: if delta.response_nonce.is_empty() { state.nonce.clone() } else { delta.response_nonce },
            error_detail: delta.error_detail,
            ..Default::default()
        }
    }

    /// What `response` says as a change of what was there before.
    pub fn response(&mut self, response: ads_pb::DiscoveryResponse) -> ads_pb::DeltaDiscoveryResponse {
        let ads_pb::DiscoveryResponse { version_info, resources, type_url, nonce, .. } = response;
        let state = self.types.entry(type_url.clone()).or_default();
        state.nonce.clone_from(&nonce);
        state.unanswered.insert(nonce.clone(), version_info.clone());
        let resources: Vec<_> = resources.into_iter().map(|body| resource(body, &version_info)).collect();
        let mut removed_resources = Vec::new();
        if matches!(Kind::from_type_url(&type_url), Some(Kind::Listener | Kind::Cluster)) {
            let now: BTreeSet<String> = resources.iter().map(|resource| resource.name.clone()).collect();
            removed_resources = state.held.difference(&now).cloned().collect();
            state.held = now;
        }
        ads_pb::DeltaDiscoveryResponse {
            system_version_info: version_info,
            resources,
            type_url,
            removed_resources,
            nonce,
            ..Default::default()
        }
    }
}

fn resource(body: Any, version: &str) -> ads_pb::Resource {
    let wrapped = (type_name(&body.type_url) == WRAPPER).then(|| ads_pb::Resource::decode(body.value.as_slice()).ok());
    let mut resource = match wrapped.flatten() {
        Some(resource) => resource,
        None => ads_pb::Resource { resource: Some(body), ..Default::default() },
    };
    if resource.name.is_empty() {
        // What does not decode has no name, and is refused without one.
        let named = resource.resource.as_ref().and_then(|body| Named::decode(body.value.as_slice()).ok());
        resource.name = named.unwrap_or_default().name;
    }
    resource.version = version.to_owned();
    resource
}
