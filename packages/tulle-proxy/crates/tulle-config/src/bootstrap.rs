//! What the process starts with: who it is, its admin address, its static resources and where its control plane is.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_balance::Locality;
use tulle_core::metadata::Value;
use tulle_core::{Address, Str};

use crate::cluster::Cluster;
use crate::listener::Listener;
use crate::overload::OverloadManager;
use crate::patience::Patience;
use crate::runtime::Runtime;
use crate::tls::Secret;

#[derive(Clone, Debug)]
pub struct Bootstrap {
    pub node: Node,
    /// `None`: no admin endpoint.
    pub admin: Option<Address>,
    pub resources: StaticResources,
    /// `None`: static resources are everything there is.
    pub ads: Option<AdsConfig>,
    pub files: Files,
    /// The cluster of the proxies like this one, for zone-aware routing (`cluster_manager.local_cluster_name`).
    pub local_cluster: Option<Str>,
    /// `None`: nothing is shed.
    pub overload: Option<OverloadManager>,
    /// How many connections from clients there may be, as the runtime says.
    pub connections: ConnectionLimits,
    pub runtime: Arc<Runtime>,
    /// What was understood but has no effect here, for the log: one line each, with the field's path.
    pub warnings: Vec<String>,
}

/// Limits on connections from clients among the runtime's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of all listeners (`overload.global_downstream_max_connections`).
    pub process: Option<u64>,
    /// Of single listeners, by name (`envoy.resource_limits.listener.NAME.connection_limit`).
    pub listeners: BTreeMap<Str, u64>,
}

/// This proxy, as it introduces itself to the control plane.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub id: Str,
    pub cluster: Str,
    pub metadata: BTreeMap<Str, Value>,
    pub locality: Locality,
}

#[derive(Clone, Debug, Default)]
pub struct StaticResources {
    pub listeners: Vec<Arc<Listener>>,
    pub clusters: Vec<Arc<Cluster>>,
    pub secrets: Vec<(Str, Arc<Secret>)>,
}

/// Files that hold all listeners and all clusters beside the static ones, where they do not come from the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub listeners: Option<Str>,
    pub clusters: Option<Str>,
}

/// What is said on a control plane's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Changes, each resource with a version of its own.
    Delta,
    /// Everything, in one version.
    StateOfTheWorld,
}

/// The aggregated discovery service.
#[derive(Clone, Debug)]
pub struct AdsConfig {
    /// A static cluster.
    pub cluster: Str,
    pub variant: Variant,
    /// Metadata sent with the stream.
    pub initial_metadata: Vec<(Str, Str)>,
    /// Whether listeners and clusters are subscribed to (wildcard) as well, and how long the first are waited for.
    pub listeners: Option<Patience>,
    pub clusters: Option<Patience>,
}
