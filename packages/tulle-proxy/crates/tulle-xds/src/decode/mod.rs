//! Envoy's messages to typed configuration, one file for each kind of resource or filter.
//!
//! Every decoder takes its message apart field by field (no `..`), so that a field is decoded, refused or warned about
//! but never skipped. A resource with any error is refused whole.

// Envoy's API marks fields as deprecated long before control planes stop sending them.
#![allow(deprecated)]

mod access_log;
mod address;
mod chain;
mod cluster;
pub(crate) mod common;
mod connection_limit;
mod cookies;
pub(crate) mod cx;
mod detection;
mod discovery;
mod dns_cache;
mod endpoint;
mod filters;
mod forward;
mod hash_policy;
mod hcm;
mod health;
mod http_options;
mod internal_redirect;
mod lb;
mod lb_extensions;
mod listener;
mod local_reply;
mod matchers;
mod mutation;
mod outlier;
mod own;
mod protocol;
mod redirect;
mod retry;
mod rewrites;
mod route;
mod route_match;
mod scopes;
mod source;
mod subsets;
mod tcp_proxy;
mod tls;
mod tracing;
mod transport;

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint_pb;
use envoy_types::pb::envoy::config::listener::v3 as listener_pb;
use envoy_types::pb::envoy::config::route::v3 as route_pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls_pb;
use envoy_types::pb::google::protobuf::Any;
use tulle_balance::EndpointSet;
use tulle_config::filters::Extension;
use tulle_config::{Cluster, Listener, Runtime, Secret};
use tulle_core::Str;
use tulle_route::RouteConfig;
use tulle_route::scopes::Scope;

pub use common::struct_to_map;
pub use cx::{Cx, Finding, type_name};

/// The resource types this proxy understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    // In the order in which they are subscribed to and published: what others need comes first.
    Cluster,
    Endpoints,
    Listener,
    Scope,
    Route,
    Extension,
    Secret,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Scope, Kind::Route, Kind::Extension, Kind::Secret];

    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Kind::Scope => "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
            Kind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Kind::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    pub fn from_type_url(type_url: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }
}

/// A decoded resource.
#[derive(Clone, Debug)]
pub enum Resource {
    Cluster(Arc<Cluster>),
    Endpoints(Str, Arc<EndpointSet>),
    Listener(Arc<Listener>),
    Scope(Arc<Scope>),
    Route(Arc<RouteConfig>),
    Extension(Str, Arc<Extension>),
    Secret(Str, Arc<Secret>),
}

impl Resource {
    pub fn name(&self) -> &Str {
        match self {
            Resource::Cluster(cluster) => &cluster.name,
            Resource::Endpoints(name, _) | Resource::Extension(name, _) | Resource::Secret(name, _) => name,
            Resource::Listener(listener) => &listener.name,
            Resource::Scope(scope) => &scope.name,
            Resource::Route(route) => &route.name,
        }
    }
}

/// A decoded value with the warnings about it, or everything that was wrong.
pub type Decoded<T> = Result<(T, Vec<Finding>), Vec<Finding>>;

/// Decodes a packed resource of the given kind.
pub fn resource(kind: Kind, any: &Any) -> Decoded<Resource> {
    resource_by(kind, any, &Arc::default())
}

/// The same where `runtime` overrides defaults.
pub fn resource_by(kind: Kind, any: &Any, runtime: &Arc<Runtime>) -> Decoded<Resource> {
    let mut cx = Cx::with_runtime(runtime.clone());
    // As in Envoy, tables that are sent by themselves may come before their clusters, and others may not.
    cx.validates_tables = kind == Kind::Listener;
    let value = match kind {
        Kind::Cluster => cx
            .unpack::<cluster_pb::Cluster>(any)
            .and_then(|message| cluster::cluster(&mut cx, message))
            .map(|cluster| Resource::Cluster(Arc::new(cluster))),
        Kind::Endpoints => cx
            .unpack::<endpoint_pb::ClusterLoadAssignment>(any)
            .and_then(|message| endpoint::named_assignment(&mut cx, message))
            .map(|(name, set)| Resource::Endpoints(name, Arc::new(set))),
        Kind::Listener => cx
            .unpack::<listener_pb::Listener>(any)
            .and_then(|message| listener::listener(&mut cx, message))
            .map(|listener| Resource::Listener(Arc::new(listener))),
        Kind::Scope => cx
            .unpack::<route_pb::ScopedRouteConfiguration>(any)
            .and_then(|message| scopes::scope(&mut cx, message))
            .map(|scope| Resource::Scope(Arc::new(scope))),
        Kind::Route => cx
            .unpack::<route_pb::RouteConfiguration>(any)
            .and_then(|message| route::route_config(&mut cx, message))
            .map(|route| Resource::Route(Arc::new(route))),
        Kind::Extension => cx
            .unpack::<core_pb::TypedExtensionConfig>(any)
            .and_then(|message| filters::extension(&mut cx, message))
            .map(|(name, extension)| Resource::Extension(name, Arc::new(extension))),
        Kind::Secret => cx
            .unpack::<tls_pb::Secret>(any)
            .and_then(|message| tls::secret(&mut cx, message))
            .map(|(name, secret)| Resource::Secret(name, Arc::new(secret))),
    };
    cx.finish(value)
}

/// Decodes the static listeners, clusters and secrets of a bootstrap; used by [`crate::bootstrap`].
pub(crate) mod statics {
    pub(crate) use super::address::{Names, address};
    pub(crate) use super::cluster::cluster;
    pub(crate) use super::common::{locality, struct_to_map};
    pub(crate) use super::cx::{refuse, type_name, without_effect};
    pub(crate) use super::listener::listener;
    pub(crate) use super::source::{file, patience};
    pub(crate) use super::tls::secret;
}
