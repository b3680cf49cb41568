//! Clusters: a set of endpoints, how they are found, chosen, protected and spoken to.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tulle_balance::{EndpointMetadata, EndpointSet, Health, Labels, LbConfig, Locality, OutlierConfig};
use tulle_core::metadata::Metadata;
use tulle_core::{Address, Str};

use tulle_policy::{CircuitBreakers, RetryPolicy, StringMatcher};
use tulle_route::{HashPolicy, Mirror};

use crate::egress::EgressGuard;
use crate::hcm::{Http1Options, Http2Options};
use crate::listener::PassFields;
use crate::own::Own;
use crate::source::Source;
use crate::tls::UpstreamTls;

/// A cluster. What its settings are is read from it directly.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: Str,
    /// The name in statistics (`alt_stat_name`); the cluster's name when not given.
    pub stat_name: Str,
    pub discovery: Discovery,
    /// Used when no entry of `transport_matches` fits the endpoint.
    pub transport: UpstreamTransport,
    pub transport_matches: Box<[TransportMatch]>,
    pub metadata: Arc<Metadata>,
    /// Of clusters with hosts outside the mesh: which addresses these must not have.
    pub egress: Option<Arc<EgressGuard>>,
    /// Instead of those of the route, where there are any.
    pub policies: Option<Arc<RequestPolicies>>,
    /// Shared by clusters that have the same, as most of a mesh have.
    pub settings: Arc<ClusterSettings>,
}

impl Deref for Cluster {
    type Target = ClusterSettings;

    fn deref(&self) -> &ClusterSettings {
        &self.settings
    }
}

/// What a cluster says of the requests to it, in place of what their routes say.
#[derive(Clone, Debug)]
pub struct RequestPolicies {
    pub retry: Option<RetryPolicy>,
    /// Empty: the route's.
    pub hash: Box<[HashPolicy]>,
    /// Empty: the route's.
    pub mirrors: Box<[Mirror]>,
}

/// How a cluster's endpoints are chosen, protected and spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    pub lb: LbConfig,
    /// Envoy's default is 5 s.
    pub connect_timeout: Duration,
    pub protocol: HttpProtocol,
    /// `None`: the TLS settings say it.
    pub tls_name: Option<NameByRequest>,
    pub limits: ConnectionLimits,
    pub circuit_breakers: CircuitBreakers,
    pub outlier: Option<OutlierConfig>,
    pub health_checks: Vec<HealthCheck>,
    pub bind: Option<Bind>,
    pub tcp_keepalive: Option<TcpKeepAlive>,
    /// Soft limit in bytes on buffers of one connection. Envoy's default is 1 MiB.
    pub buffer_limit: u32,
    /// Close connections to an endpoint that became unhealthy.
    pub close_connections_on_host_health_failure: bool,
    /// A removed endpoint is kept until health checks fail it (Envoy); true drops it at once.
    pub ignore_health_on_host_removal: bool,
    /// A connection carries the requests of one client's connection only.
    pub pool_per_client: bool,
    /// What Tulle adds to Envoy; `None` where nothing is.
    pub own: Option<Box<Own>>,
}

/// Where sockets towards endpoints are made, and the address that they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Without an address and a port the system chooses.
    pub address: SocketAddr,
    /// The file of the Linux network namespace from inside which endpoints are called; `None` is the process's own.
    pub namespace: Option<Str>,
}

/// Where endpoints come from.
#[derive(Clone, Debug)]
pub enum Discovery {
    Static(Arc<EndpointSet>),
    /// Key of `Config::endpoints`: the service name given, else the cluster's name; with the file where they come from one.
    Eds(Str, Source),
    /// Every address that each name resolves to is an endpoint.
    StrictDns(Arc<DnsDiscovery>),
    /// One endpoint; the address is whatever the name resolves to when a connection is made.
    LogicalDns(Arc<DnsDiscovery>),
    /// The connection's own original destination, or what the request says.
    OriginalDst(Box<OriginalDst>),
    /// Whichever host a request's authority or a connection's server name says.
    Dynamic,
    /// The hosts of these clusters: the priorities of the first, then those of the next.
    Aggregate(Box<[Str]>),
    /// The first attempt is the first cluster's, the next the next's.
    Composite(Box<[Str]>),
}

impl Discovery {
    /// Whether hosts are found for each call, so that the cluster has none of its own.
    pub fn by_call(&self) -> bool {
        match self {
            Discovery::Static(_) | Discovery::Eds(..) | Discovery::StrictDns(_) | Discovery::LogicalDns(_) => false,
            Discovery::OriginalDst(_) | Discovery::Dynamic | Discovery::Aggregate(_) | Discovery::Composite(_) => true,
        }
    }
}

/// What may take the place of a connection's original destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginalDst {
    /// The header that says another address; `None` when none may.
    pub header: Option<Str>,
    /// The port, whatever the destination's was.
    pub port: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct DnsDiscovery {
    pub endpoints: Vec<DnsEndpoint>,
    /// What beside endpoints is said of them; it has none itself.
    pub policy: EndpointSet,
    pub family: DnsFamily,
    /// Between lookups, unless `respect_ttl` has a shorter one. Envoy's default is 5 s.
    pub refresh: Duration,
    pub failure_refresh: Option<(Duration, Duration)>,
    pub respect_ttl: bool,
}

#[derive(Clone, Debug)]
pub struct DnsEndpoint {
    pub address: Address,
    /// For the Host of health checks and auto_host_rewrite; the name when not given.
    pub hostname: Str,
    pub weight: u32,
    pub health: Health,
    pub priority: u32,
    pub locality: Locality,
    pub locality_weight: Option<u32>,
    pub metadata: Arc<EndpointMetadata>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    #[default]
    Auto,
    V4Only,
    V6Only,
    V4Preferred,
    All,
}

/// Which HTTP is spoken to the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpProtocol {
    Http1(Http1Options),
    Http2(Http2Options),
    /// What the downstream request came in as.
    UseDownstream {
        http1: Http1Options,
        http2: Http2Options,
    },
    /// What ALPN chose (`auto_config`): h2 or http/1.1. Needs TLS.
    Alpn {
        http1: Http1Options,
        http2: Http2Options,
    },
}

/// `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// An idle pooled connection is closed after this long. Envoy's default is 1 h.
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
    pub max_requests_per_connection: Option<u32>,
    pub max_response_headers: usize,
    pub max_response_headers_bytes: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum UpstreamTransport {
    Plaintext,
    Tls(Arc<UpstreamTls>),
    /// The endpoint is told first whose connection it gets.
    Proxied(Arc<Proxied>),
}

/// A PROXY header (haproxy.org, "The PROXY protocol", 2020/03/05) and what follows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxied {
    pub version: ProxyVersion,
    /// Type-length-value fields behind the addresses, as they are sent; version 2 only.
    pub tlvs: Box<[u8]>,
    /// Which fields of the client's own header go with them.
    pub pass: PassFields,
    /// Not `Proxied` again.
    pub inner: UpstreamTransport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

impl UpstreamTransport {
    /// The TLS settings, behind a PROXY header or not.
    pub fn tls(&self) -> Option<&Arc<UpstreamTls>> {
        match self {
            UpstreamTransport::Plaintext => None,
            UpstreamTransport::Tls(settings) => Some(settings),
            UpstreamTransport::Proxied(proxied) => proxied.inner.tls(),
        }
    }

    pub fn proxied(&self) -> Option<&Proxied> {
        match self {
            UpstreamTransport::Proxied(proxied) => Some(proxied),
            UpstreamTransport::Plaintext | UpstreamTransport::Tls(_) => None,
        }
    }
}

/// Which name connections over TLS ask for and expect, by the request that they are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameByRequest {
    /// The request's field that says the name; `None` is its authority.
    pub header: Option<Str>,
    /// It is sent as SNI.
    pub sent: bool,
    /// The server's certificate must be for it.
    pub verified: bool,
}

impl Cluster {
    /// Whether an endpoint may be told whose connection it gets: connections are then each client's own.
    pub fn tells_client(&self) -> bool {
        self.pool_per_client
            || self.transport.proxied().is_some()
            || self.transport_matches.iter().any(|m| m.transport.proxied().is_some())
    }

    /// How HTTP/1 is spoken to the endpoints, where it is.
    pub fn http1(&self) -> Option<&Http1Options> {
        match &self.protocol {
            HttpProtocol::Http1(http1)
            | HttpProtocol::UseDownstream { http1, .. }
            | HttpProtocol::Alpn { http1, .. } => Some(http1),
            HttpProtocol::Http2(_) => None,
        }
    }
}

/// An endpoint whose `envoy.transport_socket_match` metadata holds all of `criteria` uses `transport`; first fit wins.
#[derive(Clone, Debug)]
pub struct TransportMatch {
    pub name: Str,
    /// Empty matches every endpoint.
    pub criteria: Labels,
    pub transport: UpstreamTransport,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TcpKeepAlive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    pub timeout: Duration,
    pub interval: Duration,
    pub interval_jitter: Duration,
    /// The same as a share of the interval.
    pub interval_jitter_percent: u32,
    pub initial_jitter: Duration,
    /// Used instead of `interval` while the cluster has had no traffic. Envoy's default is 60 s.
    pub no_traffic_interval: Duration,
    /// The same after a check that passed and left nothing open.
    pub no_traffic_healthy_interval: Duration,
    /// After a check that failed.
    pub unhealthy_interval: Duration,
    /// After one that failed and is still short of the threshold.
    pub unhealthy_edge_interval: Duration,
    /// After one that passed and is still short of the threshold.
    pub healthy_edge_interval: Duration,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
    pub reuse_connection: bool,
    /// What picks the transport for checks, instead of the endpoint's own labels.
    pub transport_labels: Option<Labels>,
    /// What checks over TLS offer by ALPN; empty: by their protocol.
    pub alpn: Vec<Arc<[u8]>>,
    pub checker: HealthChecker,
}

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a cluster has few checks, and most are of the large kind")]
pub enum HealthChecker {
    Http {
        host: Option<Str>,
        path: Str,
        /// Upper case.
        method: Str,
        http2: bool,
        /// Half-open ranges; 200 only when configuration gives none.
        expected_statuses: Vec<(u16, u16)>,
        retriable_statuses: Vec<(u16, u16)>,
        /// Names in lower case.
        request_headers: Vec<(Str, Str)>,
        /// Left out; names in lower case.
        without_headers: Vec<Str>,
        /// The request's body.
        send: Option<Arc<[u8]>>,
        /// The beginning of the response's body, of so many bytes (`None`: of all), must hold each of these in order.
        receive: Vec<Arc<[u8]>>,
        receive_within: Option<usize>,
        /// What the host must say its cluster is (`x-envoy-upstream-healthchecked-cluster`).
        service: Option<StringMatcher>,
    },
    /// Connect; send `send` if any; succeed when the received bytes hold each of `receive` in order.
    Tcp { send: Option<Arc<[u8]>>, receive: Vec<Arc<[u8]>> },
    Grpc {
        service: Str,
        authority: Option<Str>,
        /// Names in lower case.
        metadata: Vec<(Str, Str)>,
    },
}
