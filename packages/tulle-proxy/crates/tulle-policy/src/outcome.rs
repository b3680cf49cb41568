//! What one attempt ended with, as retries and outlier detection need to know it.

use std::time::Duration;

/// Why an attempt gave no complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// No connection could be made (refused, timeout, TLS handshake).
    ConnectFailure,
    /// The connection ended before a response head.
    ConnectionTermination,
    /// The peer reset the stream.
    RemoteReset,
    /// The peer refused the stream (h2 REFUSED_STREAM, or above its GOAWAY): it was not processed.
    RemoteRefused,
    /// We reset it, for instance because of an error in the peer's message.
    LocalReset,
    ProtocolError,
    /// A circuit-breaker limit.
    Overflow,
    PerTryTimeout,
    /// The request's overall timeout; never retried.
    GlobalTimeout,
    NoHealthyHost,
}

/// The HTTP status that a gRPC status stands for (Envoy's `Grpc::Utility::grpcToHttpStatus`).
pub fn http_of_grpc(status: u16) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// The gRPC status that an HTTP status stands for (gRPC's "http-grpc-status-mapping", Envoy's `httpToGrpcStatus`).
pub fn grpc_of_http(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// How an attempt ended, at the latest moment when a retry is still possible: before any byte went downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response head arrived.
    Response {
        status: u16,
        /// From `grpc-status` of a trailers-only response.
        grpc_status: Option<u16>,
        /// How long the response asks to wait, where the policy looks at that (`Retry-After`, `X-RateLimit-Reset`).
        come_back_in: Option<Duration>,
        /// One of the policy's retriable response headers matched.
        retriable_header: bool,
        /// `x-envoy-ratelimited` was present: such a response is not retried unless asked for.
        rate_limited: bool,
        /// A proxy further on has retried as often as it may (`x-tulle-retried`): once more would only add to its load.
        retried: bool,
    },
    /// No response head; `request_sent` when at least a byte of the request left.
    Reset { reason: ResetReason, request_sent: bool },
}

impl Outcome {
    pub fn status(status: u16) -> Self {
        Outcome::Response {
            status,
            grpc_status: None,
            come_back_in: None,
            retriable_header: false,
            rate_limited: false,
            retried: false,
        }
    }
}
