//! The typed configuration that every other crate runs on: what xDS means, after protobuf is gone.
//!
//! Values here are immutable once built and shared by `Arc`. A worker compares `Arc` identity to see what changed:
//! only a resource whose content changed gets a new `Arc` (see [`store`]). Decoding, and the refusal of what
//! makes no sense, happen in `tulle-xds`; code that reads these types may rely on every documented invariant.

pub mod access_log;
pub mod authorizer;
pub mod bootstrap;
pub mod cluster;
pub mod egress;
pub mod filters;
pub mod grpc;
pub mod hcm;
pub mod listener;
pub mod local_reply;
pub mod overload;
pub mod own;
pub mod patience;
pub mod rate_limiter;
mod runtime;
pub mod source;
pub mod store;
pub mod tcp;
pub mod tls;
pub mod tokens;

pub use access_log::{AccessLog, AccessLogSink, LogFormat};
pub use authorizer::Authorizer;
pub use bootstrap::{AdsConfig, Bootstrap, ConnectionLimits, Files, Node, StaticResources, Variant};
pub use cluster::{Cluster, Discovery, HttpProtocol, UpstreamTransport};
pub use filters::HttpFilter;
pub use grpc::GrpcService;
pub use hcm::{Hcm, RouteSource};
pub use listener::{ConnectionCheck, FilterChain, Listener, NetworkFilter};
pub use overload::OverloadManager;
pub use patience::Patience;
pub use rate_limiter::RateLimiter;
pub use runtime::Runtime;
pub use source::{FileSource, Source};
pub use store::{Change, Config, ConfigStore, Generation, Readiness};
pub use tcp::TcpProxy;
pub use tls::{DownstreamTls, Secret, UpstreamTls};
pub use tokens::{TokenFilter, TokenRule};
pub use tulle_core::Cidr;
