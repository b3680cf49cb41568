//! What an access log or a header format can ask about an exchange.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tulle_core::{ResponseFlags, UnixNanos, metadata};

/// Which head a header operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadPart {
    Request,
    Response,
    /// The response's trailers.
    Trailers,
}

/// Whose metadata an operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// What filters found out of the request.
    Request,
    Cluster,
}

/// A moment of an exchange, as `%COMMON_DURATION%` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimePoint {
    /// The request's first byte.
    DownstreamStart,
    /// The request's last byte received.
    DownstreamRxEnd,
    UpstreamConnectStart,
    UpstreamConnectEnd,
    UpstreamTxStart,
    UpstreamTxEnd,
    UpstreamRxStart,
    UpstreamRxEnd,
    DownstreamTxStart,
    DownstreamTxEnd,
    /// The exchange's end, whatever the reason.
    Complete,
}

impl TimePoint {
    /// How many there are, for tables indexed by `point as usize`.
    pub const COUNT: usize = TimePoint::Complete as usize + 1;
}

/// A single fact about an exchange. Names follow Envoy's operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Protocol,
    UpstreamProtocol,
    ResponseCode,
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    ResponseFlags,
    BytesReceived,
    BytesSent,
    RequestHeadersBytes,
    ResponseHeadersBytes,
    UpstreamHost,
    UpstreamHostName,
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamLocalAddress,
    UpstreamRemoteAddress,
    UpstreamTransportFailureReason,
    UpstreamRequestAttemptCount,
    UpstreamConnectionId,
    UpstreamTlsVersion,
    UpstreamTlsCipher,
    UpstreamTlsGroup,
    UpstreamPeerUriSan,
    UpstreamPeerDnsSan,
    UpstreamPeerIpSan,
    UpstreamPeerSubject,
    UpstreamPeerIssuer,
    UpstreamPeerCert,
    UpstreamPeerCertStart,
    UpstreamPeerCertEnd,
    UpstreamLocalUriSan,
    UpstreamLocalDnsSan,
    UpstreamLocalIpSan,
    DownstreamLocalAddress,
    DownstreamRemoteAddress,
    DownstreamDirectRemoteAddress,
    DownstreamTransportFailureReason,
    DownstreamTlsVersion,
    DownstreamTlsCipher,
    DownstreamTlsGroup,
    DownstreamPeerUriSan,
    DownstreamPeerDnsSan,
    DownstreamPeerIpSan,
    DownstreamPeerEmailSan,
    DownstreamPeerSubject,
    DownstreamPeerIssuer,
    DownstreamPeerSerial,
    DownstreamPeerFingerprint1,
    DownstreamPeerFingerprint256,
    DownstreamPeerCert,
    DownstreamPeerCertStart,
    DownstreamPeerCertEnd,
    DownstreamLocalUriSan,
    DownstreamLocalDnsSan,
    DownstreamLocalIpSan,
    DownstreamLocalEmailSan,
    DownstreamLocalSubject,
    RequestedServerName,
    RouteName,
    VirtualClusterName,
    FilterChainName,
    ListenerName,
    ConnectionId,
    TraceId,
    SpanId,
    Hostname,
    GrpcStatusNumber,
    AccessLogType,
    /// The text of an answer of the proxy itself, while that is being made.
    LocalReplyBody,
}

/// A field's value. Durations and sizes stay numbers until they are printed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Printed as `-` in text and `null` in typed JSON.
    None,
    Bytes(&'a [u8]),
    Number(u64),
    Socket(SocketAddr),
    Ip(IpAddr),
    Flags(ResponseFlags),
    Time(UnixNanos),
    /// A number in so many hexadecimal digits.
    Hex(u128, usize),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Bytes(text.as_bytes())
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Value::None, Value::from)
    }
}

/// An exchange as logs and header formats see it; the data path implements it over what it holds anyway.
pub trait LogView {
    /// The first value of a header field (name in lower case; `:method`, `:path`, `:authority`, `:scheme`, `:status` too).
    fn header(&self, part: HeadPart, name: &str) -> Option<&[u8]>;

    fn field(&self, field: Field) -> Value<'_>;

    /// When the exchange started, by the wall clock.
    fn start_time(&self) -> UnixNanos;

    /// Time from the start to `point`; `None` when it has not happened.
    fn elapsed(&self, point: TimePoint) -> Option<Duration>;

    /// The metadata that `owner` has.
    fn metadata(&self, _owner: Owner) -> Option<&metadata::Metadata> {
        None
    }
}
