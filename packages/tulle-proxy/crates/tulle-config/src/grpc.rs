//! A gRPC service that filters ask over a cluster (`envoy.config.core.v3.GrpcService`, `envoy_grpc`).

use std::time::Duration;

use tulle_core::Str;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcService {
    pub cluster: Str,
    pub authority: Str,
    /// `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// Metadata that goes with each call.
    pub metadata: Box<[(Str, Str)]>,
}
