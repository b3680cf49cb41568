//! Which timeouts hold for one request, from the route and from the request's own headers.

use std::time::Duration;

use tulle_core::Headers;

use crate::retry::RetryPolicy;

/// A route's timeouts; `None` means no limit unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// For the complete response; Envoy's default is 15 s; `None` when configured as zero.
    pub request: Option<Duration>,
    /// `Some(None)` disables the stream idle timeout; `None` leaves the connection manager's.
    pub idle: Option<Option<Duration>>,
    /// `max_grpc_timeout`: `Some(None)` honours `grpc-timeout` without a bound.
    pub max_grpc: Option<Option<Duration>>,
    pub grpc_offset: Option<Duration>,
    /// `max_stream_duration`; where a route has it, `request` and `max_grpc` do not hold, as in Envoy.
    pub stream: Option<StreamLimits>,
}

/// `envoy.config.route.v3.RouteAction.MaxStreamDuration`: how long a stream may take from its head to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLimits {
    /// `Some(None)` switches the connection manager's limit off; `None` leaves it.
    pub max: Option<Option<Duration>>,
    /// `grpc_timeout_header_max`: `Some(None)` honours `grpc-timeout` without a bound.
    pub max_grpc: Option<Option<Duration>>,
    pub grpc_offset: Option<Duration>,
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        TimeoutPolicy {
            request: Some(Duration::from_secs(15)),
            idle: None,
            max_grpc: None,
            grpc_offset: None,
            stream: None,
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

impl Timeouts {
    /// The timeouts of a request on a route: `grpc-timeout` where the route honours it, then the trusted overrides
    /// `x-envoy-upstream-rq-timeout-ms` and `-per-try-timeout-ms` (Envoy's `FilterUtility::finalTimeout`).
    ///
    /// The caller strips `x-envoy-*` from requests of untrusted callers first.
    pub fn resolve<H: Headers + ?Sized>(policy: &TimeoutPolicy, retry: Option<&RetryPolicy>, request: &H) -> Self {
        let mut request_timeout = match (policy.stream, policy.max_grpc, is_grpc(request)) {
            (Some(_), _, _) => None,
            (None, Some(max), true) => grpc_limit(policy.grpc_offset, max, request.header("grpc-timeout")),
            _ => policy.request,
        };
        let mut per_try = retry.and_then(|retry| retry.per_try_timeout);
        if let Some(asked) = millis(request.header("x-envoy-upstream-rq-timeout-ms")) {
            request_timeout = asked;
        }
        if let Some(asked) = millis(request.header("x-envoy-upstream-rq-per-try-timeout-ms")) {
            per_try = asked;
        }
        let useful = |per_try: &Duration| request_timeout.is_none_or(|whole| *per_try < whole);
        Timeouts {
            request: request_timeout,
            per_try: per_try.filter(useful),
            per_try_idle: retry.and_then(|retry| retry.per_try_idle_timeout),
        }
    }
}

impl TimeoutPolicy {
    /// How long the whole stream may take (Envoy's `ActiveStream::refreshDurationTimeout`); `manager` is the connection
    /// manager's `max_stream_duration`.
    pub fn stream_limit<H: Headers + ?Sized>(&self, manager: Option<Duration>, request: &H) -> Option<Duration> {
        let Some(limits) = self.stream else { return manager };
        let asked = request.header("grpc-timeout").and_then(parse_grpc_timeout);
        let (Some(max), Some(mut asked)) = (limits.max_grpc, asked) else { return limits.max.unwrap_or(manager) };
        if let Some(max) = max {
            asked = asked.min(max);
        }
        Some(asked.saturating_sub(limits.grpc_offset.unwrap_or_default())).filter(|limit| !limit.is_zero())
    }
}

impl TimeoutPolicy {
    /// What the upstream is told in `grpc-timeout` of a gRPC request, where the route looks at that header at all;
    /// `stream` is the request's stream limit. `None` leaves the header as it is.
    pub fn told_grpc<H: Headers + ?Sized>(
        &self,
        timeouts: &Timeouts,
        stream: Option<Duration>,
        request: &H,
    ) -> Option<String> {
        if !is_grpc(request) {
            return None;
        }
        let limit =
            if self.stream.is_some() { stream } else { self.max_grpc.and(timeouts.per_try.or(timeouts.request)) };
        limit.map(grpc_timeout)
    }
}

/// A `grpc-timeout` value: in milliseconds, or in the next larger unit for which eight digits are enough.
fn grpc_timeout(limit: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let (millis, seconds) = (limit.as_millis(), u128::from(limit.as_secs()));
    let units = [(millis, 'm'), (seconds, 'S'), (seconds / 60, 'M'), (seconds / 3600, 'H')];
    let (count, unit) = units.into_iter().find(|(count, _)| *count <= MOST).unwrap_or((MOST, 'H'));
    format!("{count}{unit}")
}

fn is_grpc<H: Headers + ?Sized>(request: &H) -> bool {
    let rest = |kind: &[u8]| kind.strip_prefix(b"application/grpc").map(|rest| rest.first().copied());
    request.header("content-type").is_some_and(|kind| matches!(rest(kind), Some(None | Some(b'+'))))
}

/// A header in milliseconds; the inner `None` is zero, which means no limit.
fn millis(value: Option<&[u8]>) -> Option<Option<Duration>> {
    let millis: u64 = std::str::from_utf8(value?).ok()?.parse().ok()?;
    Some(Some(Duration::from_millis(millis)).filter(|duration| !duration.is_zero()))
}

fn grpc_limit(offset: Option<Duration>, max: Option<Duration>, header: Option<&[u8]>) -> Option<Duration> {
    let mut asked = header.and_then(parse_grpc_timeout).filter(|duration| !duration.is_zero());
    if let (Some(offset), Some(duration)) = (offset, asked) {
        // Only when something is left: a deadline must not turn into "no deadline".
        asked = Some(if offset < duration { duration - offset } else { duration });
    }
    match (asked, max) {
        (Some(asked), Some(max)) => Some(asked.min(max)),
        (asked, max) => asked.or(max),
    }
}

/// The `grpc-timeout` header: up to eight digits and a unit (gRPC over HTTP/2, "Timeout").
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRPC: (&str, &str) = ("content-type", "application/grpc");

    fn request_timeout(policy: &TimeoutPolicy, headers: &[(&str, &str)]) -> Option<u128> {
        Timeouts::resolve(policy, None, headers).request.map(|duration| duration.as_millis())
    }

    #[test]
    fn grpc_timeouts_parse_strictly() {
        assert_eq!(parse_grpc_timeout(b"100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_grpc_timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in [&b""[..], b"m", b"1", b"-1S", b"123456789S", b"1x", b"1 S"] {
            assert_eq!(parse_grpc_timeout(bad), None);
        }
    }

    #[test]
    fn the_upstream_is_told_in_eight_digits() {
        for (seconds, expected) in [
            (0, "0m"),
            (1, "1000m"),
            (99_999, "99999000m"),
            (100_000, "100000S"),
            (100_000_000, "1666666M"),
            (u64::MAX, "99999999H"),
        ] {
            assert_eq!(grpc_timeout(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_request_may_shorten_and_override() {
        let route = TimeoutPolicy::default();
        assert_eq!(request_timeout(&route, &[]), Some(15_000));
        assert_eq!(request_timeout(&route, &[("x-envoy-upstream-rq-timeout-ms", "200")]), Some(200));
        assert_eq!(request_timeout(&route, &[("x-envoy-upstream-rq-timeout-ms", "0")]), None);
        assert_eq!(request_timeout(&route, &[("x-envoy-upstream-rq-timeout-ms", "soon")]), Some(15_000));
        // Without max_grpc the header is not looked at.
        assert_eq!(request_timeout(&route, &[GRPC, ("grpc-timeout", "1S")]), Some(15_000));
        let honouring = TimeoutPolicy { max_grpc: Some(Some(Duration::from_secs(5))), ..route };
        assert_eq!(request_timeout(&honouring, &[GRPC, ("grpc-timeout", "1S")]), Some(1_000));
        assert_eq!(request_timeout(&honouring, &[GRPC, ("grpc-timeout", "9S")]), Some(5_000));
        assert_eq!(request_timeout(&honouring, &[GRPC]), Some(5_000));
        let unbounded = TimeoutPolicy { max_grpc: Some(None), ..route };
        assert_eq!(request_timeout(&unbounded, &[GRPC]), None);
    }

    #[test]
    fn a_route_may_limit_the_whole_stream_instead() {
        let seconds = |n| Some(Duration::from_secs(n));
        let asking: &[(&str, &str)] = &[GRPC, ("grpc-timeout", "3S")];
        let none: &[(&str, &str)] = &[];
        let with = |stream| TimeoutPolicy { stream: Some(stream), ..TimeoutPolicy::default() };
        let route = TimeoutPolicy::default();
        assert_eq!(route.stream_limit(seconds(9), asking), seconds(9));
        let own = StreamLimits { max: Some(seconds(5)), ..StreamLimits::default() };
        assert_eq!(with(own).stream_limit(seconds(9), asking), seconds(5));
        assert_eq!(Timeouts::resolve(&with(own), None, asking).request, None);
        assert_eq!(with(StreamLimits { max: Some(None), ..own }).stream_limit(seconds(9), asking), None);
        let honouring = StreamLimits { max_grpc: Some(seconds(2)), ..own };
        assert_eq!(with(honouring).stream_limit(None, asking), seconds(2));
        assert_eq!(with(honouring).stream_limit(None, none), seconds(5));
        let offset = StreamLimits { max_grpc: Some(None), grpc_offset: seconds(1), ..own };
        assert_eq!(with(offset).stream_limit(None, asking), seconds(2));
    }

    #[test]
    fn a_per_try_timeout_beyond_the_whole_is_dropped() {
        let retry = RetryPolicy { per_try_timeout: Some(Duration::from_secs(20)), ..RetryPolicy::default() };
        let headers: &[(&str, &str)] = &[];
        assert_eq!(Timeouts::resolve(&TimeoutPolicy::default(), Some(&retry), headers).per_try, None);
        let endless = TimeoutPolicy { request: None, ..TimeoutPolicy::default() };
        assert_eq!(Timeouts::resolve(&endless, Some(&retry), headers).per_try, Some(Duration::from_secs(20)));
    }
}
