//! Deadlines that travel: how much time a caller has left, told in the request, and what is told on (our own).
//!
//! gRPC callers say it in `grpc-timeout`, others in `x-tulle-timeout-ms`, or, from an Envoy, in
//! `x-envoy-expected-rq-timeout-ms`. The remaining time is told, not a point in time, so that clocks need not agree.

use std::time::Duration;

use tulle_core::{Headers, HeadersMut};

use crate::timeout::parse_grpc_timeout;

/// The remaining time in milliseconds, for callers that do not speak gRPC.
pub const HEADER: &str = "x-tulle-timeout-ms";
const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";
const GRPC: &str = "grpc-timeout";

/// How a cluster's requests treat deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadlineConfig {
    /// With less than this left a request is refused: it could not be finished.
    pub minimum: Duration,
}

/// The time a caller still waits, if it says so; zero when that is over.
pub fn remaining<H: Headers + ?Sized>(request: &H) -> Option<Duration> {
    let millis = |name: &str| {
        let text = std::str::from_utf8(request.header(name)?).ok()?;
        Some(Duration::from_millis(text.trim().parse().ok()?))
    };
    let grpc = request.header(GRPC).and_then(parse_grpc_timeout);
    let own = millis(HEADER).or_else(|| millis(ENVOY));
    match (grpc, own) {
        (Some(grpc), Some(own)) => Some(grpc.min(own)),
        (grpc, own) => grpc.or(own),
    }
}

/// Tells the next hop how much is left.
pub fn tell<H: HeadersMut + ?Sized>(head: &mut H, left: Duration) {
    let millis = left.as_millis().clamp(1, 99_999_999);
    if head.header(GRPC).is_some() {
        head.set(GRPC, format!("{millis}m").as_bytes());
    }
    if head.header(ENVOY).is_some() {
        head.set(ENVOY, millis.to_string().as_bytes());
    }
    head.set(HEADER, millis.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(headers: &[(&str, &str)]) -> Option<u128> {
        remaining(headers).map(|left| left.as_millis())
    }

    #[test]
    fn the_shortest_of_what_is_told_counts() {
        assert_eq!(left(&[]), None);
        assert_eq!(left(&[("x-tulle-timeout-ms", "250")]), Some(250));
        assert_eq!(left(&[("x-tulle-timeout-ms", "250"), ("x-envoy-expected-rq-timeout-ms", "900")]), Some(250));
        assert_eq!(left(&[("x-envoy-expected-rq-timeout-ms", "900")]), Some(900));
        assert_eq!(left(&[("grpc-timeout", "1S"), ("x-tulle-timeout-ms", "2000")]), Some(1_000));
        assert_eq!(left(&[("x-tulle-timeout-ms", "0")]), Some(0));
        for wrong in ["-1", "soon", "1.5", ""] {
            assert_eq!(left(&[("x-tulle-timeout-ms", wrong)]), None, "{wrong}");
        }
    }
}
