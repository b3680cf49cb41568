//! The HTTP connection manager: how one listener speaks HTTP with its clients.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tulle_core::{Cidr, Str};
pub use tulle_route::canonical::{EscapedSlashes, PathHandling};
use tulle_route::scopes::{ScopeKeyBuilder, Scopes};
use tulle_route::{HeaderMutation, RouteConfig};

use crate::access_log::AccessLog;
use crate::filters::HttpFilter;
use crate::local_reply::LocalReply;
use crate::patience::Patience;
use crate::source::Source;

#[derive(Clone, Debug)]
pub struct Hcm {
    pub stat_prefix: Str,
    pub codec: Codec,
    pub routes: RouteSource,
    /// In order; the last one is always `Router`.
    pub filters: Vec<HttpFilter>,
    pub access_logs: Vec<AccessLog>,
    pub server: ServerHeader,
    pub forwarding: Forwarding,
    pub path: PathHandling,
    pub timeouts: HcmTimeouts,
    pub request_id: RequestId,
    pub upgrades: Vec<Upgrade>,
    pub http1: Http1Options,
    pub http2: Http2Options,
    /// Largest request head in bytes. Envoy's default is 60 KiB.
    pub max_request_headers_bytes: usize,
    /// Most header fields in one request. Envoy's default is 100.
    pub max_headers: usize,
    /// Requests served before the connection is closed (GOAWAY or `connection: close`); `None` no limit.
    pub max_requests_per_connection: Option<u32>,
    pub underscores: Underscores,
    pub host: HostHandling,
    /// An invalid HTTP message closes the whole h1 connection (Envoy's default false: 400, then close for h1).
    pub stream_error_on_invalid_message: bool,
    pub proxy_100_continue: bool,
    /// Changes of a request's head before anything else looks at it.
    pub early: Box<[HeaderMutation]>,
    /// What the scheme of all requests is said to be.
    pub scheme: Option<Scheme>,
    pub tracing: Option<Tracing>,
    pub local_reply: Option<Box<LocalReply>>,
}

/// Where the manager gets its routes.
#[derive(Clone, Debug)]
pub enum RouteSource {
    Inline(Arc<RouteConfig>),
    /// The key of a route configuration in `Config::routes`: its name, with the file where it comes from one.
    Rds(Str, Source),
    Scoped(Arc<ScopedRoutes>),
}

/// Route configurations by parts of the request.
#[derive(Clone, Debug)]
pub struct ScopedRoutes {
    pub builder: ScopeKeyBuilder,
    pub scopes: ScopeSource,
    /// For the routes that scopes name.
    pub patience: Patience,
}

/// Where scopes come from.
#[derive(Clone, Debug)]
pub enum ScopeSource {
    Inline(Arc<Scopes>),
    /// Those in `Config::scopes`.
    Srds(Patience),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// h2 by ALPN or by preface, else HTTP/1.
    #[default]
    Auto,
    Http1,
    Http2,
}

/// What happens to the `server` response header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerHeader {
    Overwrite(Str),
    AppendIfAbsent(Str),
    PassThrough,
}

/// Who the client is said to be: x-forwarded-for and x-forwarded-client-cert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The connection's address is the client's; else the one named by x-forwarded-for.
    pub use_remote_address: bool,
    pub skip_xff_append: bool,
    pub xff_num_trusted_hops: u32,
    /// Callers with these addresses count as internal: their `x-envoy-*` fields are believed.
    pub internal: Vec<Cidr>,
    pub client_cert: ForwardClientCert,
    /// Header `via` appended, when not empty.
    pub via: Option<Str>,
    /// The listener's port is told in x-forwarded-port, at an edge.
    pub port: bool,
    /// What tells who the client is, each asked in turn, instead of x-forwarded-for and the trusted hops.
    pub detection: Box<[Detection]>,
}

/// What tells who the client is behind other proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detection {
    Xff(Xff),
    Header(ClientHeader),
}

/// x-forwarded-for, by the number of trusted hops, or by their addresses where those are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xff {
    pub hops: u32,
    pub trusted: Vec<Cidr>,
    /// The connection's own address is appended.
    pub append: bool,
}

impl Xff {
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }
}

/// A header that holds the client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHeader {
    pub name: Str,
    /// The address may be an internal one.
    pub trusted: bool,
    /// The status for requests without one.
    pub reject: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardClientCert {
    pub mode: ForwardClientCertMode,
    /// Which details of the peer's certificate `AppendForward` and `SanitizeSet` write.
    pub subject: bool,
    pub cert: bool,
    pub chain: bool,
    pub dns: bool,
    pub uri: bool,
    pub issuer: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCertMode {
    #[default]
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

/// `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HcmTimeouts {
    /// The whole request received. Envoy's default: none.
    pub request: Option<Duration>,
    /// The request head received. Envoy's default: none.
    pub request_headers: Option<Duration>,
    /// A stream without any bytes. Envoy's default is 5 min.
    pub stream_idle: Option<Duration>,
    /// A connection without streams. Envoy's default is 1 h.
    pub idle: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
    /// Between the first GOAWAY and the last. Envoy's default is 5 s.
    pub drain: Duration,
    pub delayed_close: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    pub generate: bool,
    /// Keep the client's x-request-id at an edge too.
    pub preserve_external: bool,
    pub always_set_in_response: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Lower case: `websocket`, `connect`.
    pub protocol: Str,
    pub enabled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    #[default]
    Allow,
    Reject,
    Drop,
}

/// What of the authority is removed before routing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostHandling {
    pub strip_port: StripPort,
    pub strip_trailing_dot: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripPort {
    #[default]
    Never,
    /// Only when it equals the listener's port.
    Matching,
    Any,
}

/// HTTP/1 behaviour, downstream or upstream. Ambiguous framing is always refused: there is no option for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http1Options {
    /// Absolute-form targets are routed by their authority. Envoy's default is true.
    pub allow_absolute_url: bool,
    pub accept_http_1_0: bool,
    pub default_host_for_http_1_0: Option<Str>,
    pub header_case: HeaderCase,
    pub enable_trailers: bool,
    /// Methods that nobody registered are taken too.
    pub allow_custom_methods: bool,
}

impl Default for Http1Options {
    fn default() -> Self {
        Http1Options {
            allow_absolute_url: true,
            accept_http_1_0: false,
            default_host_for_http_1_0: None,
            header_case: HeaderCase::Lower,
            enable_trailers: false,
            allow_custom_methods: false,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderCase {
    #[default]
    Lower,
    Proper,
    /// As they came; names that did not come stay in lower case.
    Preserve,
    PreserveElseProper,
}

/// HTTP/2 behaviour, downstream or upstream; sizes in bytes. Defaults are Envoy's since 1.37 (1024 streams,
/// 16 MiB stream window, 24 MiB connection window); windows are cut to what the buffers can hold by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Options {
    pub max_concurrent_streams: u32,
    pub initial_stream_window: u32,
    pub initial_connection_window: u32,
    pub header_table_size: u32,
    pub allow_connect: bool,
    pub keepalive: Option<KeepAlive>,
}

impl Default for Http2Options {
    fn default() -> Self {
        Http2Options {
            max_concurrent_streams: 1024,
            initial_stream_window: 16 << 20,
            initial_connection_window: 24 << 20,
            header_table_size: 4096,
            allow_connect: false,
            keepalive: None,
        }
    }
}

/// PING frames on an h2 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// `None`: only after `connection_idle_interval`.
    pub interval: Option<Duration>,
    pub timeout: Duration,
    pub connection_idle_interval: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Percentages, 0 to 100.
    pub client_sampling: f64,
    pub random_sampling: f64,
    pub overall_sampling: f64,
    pub verbose: bool,
    pub max_path_tag_length: u32,
    pub provider: Option<TraceProvider>,
    pub spawn_upstream_span: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceProvider {
    Zipkin { cluster: Str, path: Str, hostname: Option<Str>, trace_id_128bit: bool, shared_span_context: bool },
    OpenTelemetry { cluster: Str, service_name: Str },
}
