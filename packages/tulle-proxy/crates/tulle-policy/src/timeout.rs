//! Which timeouts hold for one request, from the route and from the request's own headers.

use std::time::Duration;

/// A route's timeouts; `None` means no limit unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// For the complete response; Envoy's default is 15 s; `None` when configured as zero.
    pub request: Option<Duration>,
    /// `Some(None)` disables the stream idle timeout; `None` leaves the connection manager's.
    pub idle: Option<Option<Duration>>,
    /// `max_stream_duration` of the route.
    pub max_stream: Option<Duration>,
    /// `grpc_timeout_header_max` / `max_grpc_timeout`: `Some(None)` honours `grpc-timeout` without a bound.
    pub max_grpc: Option<Option<Duration>>,
    pub grpc_offset: Option<Duration>,
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        TimeoutPolicy {
            request: Some(Duration::from_secs(15)),
            idle: None,
            max_stream: None,
            max_grpc: None,
            grpc_offset: None,
        }
    }
}

/// The timeouts of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    pub request: Option<Duration>,
    pub per_try: Option<Duration>,
    pub per_try_idle: Option<Duration>,
}
