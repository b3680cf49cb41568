//! Listeners and their filter chains: where connections are accepted and which chain takes each one.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tulle_core::metadata::Metadata;
use tulle_core::{Address, Cidr, Str};
use tulle_policy::Rbac;
use tulle_policy::gate::{ConnectionLimit, Gate};
use tulle_route::RouteConfig;

use crate::access_log::AccessLog;
use crate::authorizer::ConnectionAuthorizer;
use crate::hcm::{Hcm, RouteSource};
use crate::tcp::TcpProxy;
use crate::tls::DownstreamTls;

/// One listening socket (or several, see `additional_addresses`) and what happens to its connections.
#[derive(Clone, Debug)]
pub struct Listener {
    pub name: Str,
    /// Prefix of this listener's statistics; the address when configuration gives none.
    pub stat_prefix: Str,
    pub address: Place,
    pub additional_addresses: Vec<Place>,
    /// Each worker binds its own SO_REUSEPORT socket. Envoy's default is true.
    pub reuse_port: bool,
    /// False: reached only by `use_original_dst` hand-off from another listener; never bound.
    pub bind_to_port: bool,
    /// Redirected connections are handed to the listener whose address equals the original destination.
    pub use_original_dst: bool,
    pub transparent: bool,
    pub socket_options: Vec<SocketOption>,
    pub backlog: u32,
    /// In configuration order; matching is Envoy's (most specific per criterion), not first wins.
    pub chains: Vec<FilterChain>,
    /// Takes connections that no chain matches; without one such connections are closed.
    pub default_chain: Option<FilterChain>,
    pub inspect: ListenerFilters,
    pub direction: TrafficDirection,
    pub drain: DrainType,
    /// Soft limit in bytes on buffers of one connection. Envoy's default is 1 MiB.
    pub buffer_limit: u32,
    /// Logged per connection, also for connections that no chain matched.
    pub access_logs: Vec<AccessLog>,
    pub metadata: Arc<Metadata>,
    /// Whether its connections count towards the most that the process may have (`ignore_global_conn_limit`).
    pub counted: bool,
    /// Its connections, counted by all workers. A listener that has changed counts anew.
    pub gate: Arc<Gate>,
}

/// An option of the listening socket, as setsockopt(2) takes it; what it accepts inherits most of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOption {
    pub level: i32,
    pub name: i32,
    pub value: Box<[u8]>,
    pub when: SocketState,
}

/// When in a socket's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    Prebind,
    Bound,
    Listening,
}

/// An address to listen on, in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub address: Address,
    /// The file of the Linux network namespace that the socket is made in; `None` is the process's own.
    pub namespace: Option<Str>,
}

impl From<SocketAddr> for Place {
    fn from(socket: SocketAddr) -> Self {
        Place { address: socket.into(), namespace: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)?;
        self.namespace.iter().try_for_each(|path| write!(out, " in {path}"))
    }
}

/// What is read from a connection before a chain is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFilters {
    /// Peek at the ClientHello: transport protocol `tls`, SNI and ALPN become matchable.
    pub tls: bool,
    /// Peek at the first bytes for HTTP/1.x or the h2 preface: application protocols become matchable.
    pub http: bool,
    /// A PROXY protocol header is required first (v1 or v2).
    pub proxy_protocol: Option<ProxyProtocol>,
    /// SO_ORIGINAL_DST replaces the local address for matching.
    pub original_dst: bool,
    /// How long inspection may wait for bytes; `None` waits for ever (configured as 0s). Envoy's default is 15 s.
    pub timeout: Option<Duration>,
    /// On timeout go on with what is known instead of closing.
    pub continue_on_timeout: bool,
    /// Which destinations have which of them switched off; empty: none.
    pub disabled: Vec<(Inspector, Destinations)>,
}

/// One of the [`ListenerFilters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspector {
    Tls,
    Http,
    ProxyProtocol,
    OriginalDst,
}

/// `envoy.config.listener.v3.ListenerFilterChainMatchPredicate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destinations {
    Any(bool),
    /// Ports from the first up to, and without, the second.
    Ports(i32, i32),
    Not(Box<Destinations>),
    All(Vec<Destinations>),
    OneOf(Vec<Destinations>),
}

impl Destinations {
    pub fn holds(&self, port: u16) -> bool {
        match self {
            Destinations::Any(any) => *any,
            Destinations::Ports(from, to) => (*from..*to).contains(&i32::from(port)),
            Destinations::Not(inner) => !inner.holds(port),
            Destinations::All(all) => all.iter().all(|each| each.holds(port)),
            Destinations::OneOf(any) => any.iter().any(|each| each.holds(port)),
        }
    }
}

impl Listener {
    /// The route tables that are part of it.
    pub fn tables(&self) -> impl Iterator<Item = &RouteConfig> {
        let chains = self.chains.iter().chain(&self.default_chain);
        chains.filter_map(|chain| match &chain.filter {
            NetworkFilter::Http(hcm) => match &hcm.routes {
                RouteSource::Inline(table) => Some(&**table),
                RouteSource::Rds(..) | RouteSource::Scoped(_) => None,
            },
            NetworkFilter::Tcp(_) => None,
        })
    }
}

impl ListenerFilters {
    /// Whether anything must be read before a chain can be chosen.
    pub fn reads_first(&self) -> bool {
        self.tls || self.http || self.proxy_protocol.is_some()
    }

    /// What is left of them for a destination.
    pub fn at(&self, port: u16) -> Cow<'_, ListenerFilters> {
        let mut left = Cow::Borrowed(self);
        for (which, _) in self.disabled.iter().filter(|(_, at)| at.holds(port)) {
            let left = left.to_mut();
            match which {
                Inspector::Tls => left.tls = false,
                Inspector::Http => left.http = false,
                Inspector::ProxyProtocol => left.proxy_protocol = None,
                Inspector::OriginalDst => left.original_dst = false,
            }
        }
        left
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Connections without a PROXY header are taken as they are instead of closed.
    pub allow_requests_without: bool,
    /// Versions that are not looked for: their headers are none.
    pub without_v1: bool,
    pub without_v2: bool,
    /// Which fields of the header endpoints may be told.
    pub pass: PassFields,
}

/// Which fields of a PROXY header (version 2) are passed on (`core.v3.ProxyProtocolPassThroughTLVs`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PassFields {
    #[default]
    None,
    All,
    /// Of these types.
    Only(Box<[u8]>),
}

impl PassFields {
    pub fn takes(&self, kind: u8) -> bool {
        match self {
            PassFields::None => false,
            PassFields::All => true,
            PassFields::Only(kinds) => kinds.contains(&kind),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficDirection {
    #[default]
    Unspecified,
    Inbound,
    Outbound,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrainType {
    /// Drain on shutdown, on health-check failure and on modification.
    #[default]
    Default,
    ModifyOnly,
}

/// A chain: which connections it takes, how they are secured, and what runs on them.
#[derive(Clone, Debug)]
pub struct FilterChain {
    pub name: Str,
    pub matches: ChainMatch,
    /// `None`: plaintext.
    pub tls: Option<Arc<DownstreamTls>>,
    /// Limit on the TLS handshake.
    pub transport_connect_timeout: Option<Duration>,
    /// How many connections the chain takes at once; counted before the TLS handshake, as in Envoy.
    pub limits: Box<[ConnectionLimit]>,
    /// Who decides about the connection, each asked in turn before anything is done with it.
    pub access: Box<[ConnectionCheck]>,
    pub filter: NetworkFilter,
    pub metadata: Arc<Metadata>,
}

/// What decides whether a connection is served.
#[derive(Clone, Debug)]
pub enum ConnectionCheck {
    Rules(Arc<Rbac>),
    Authorizer(Arc<ConnectionAuthorizer>),
}

/// Criteria of a chain; an empty list (or `None`) matches everything. Order of significance is Envoy's:
/// destination port, destination address, server name, transport protocol, application protocol, source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainMatch {
    pub destination_port: Option<u16>,
    pub destination_ranges: Vec<Cidr>,
    /// Lower case. `*.example.com` matches any longer name under example.com.
    pub server_names: Vec<Str>,
    pub transport_protocol: Option<TransportProtocol>,
    /// ALPN values of the ClientHello, or what HTTP inspection found (`http/1.1`, `h2c`).
    pub application_protocols: Vec<Str>,
    pub source: SourceMatch,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMatch {
    pub kind: SourceType,
    pub ranges: Vec<Cidr>,
    pub ports: Vec<u16>,
    pub direct_ranges: Vec<Cidr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    #[default]
    Any,
    SameIpOrLoopback,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportProtocol {
    RawBuffer,
    Tls,
}

/// The terminal network filter.
#[derive(Clone, Debug)]
pub enum NetworkFilter {
    Http(Arc<Hcm>),
    Tcp(Arc<TcpProxy>),
}
