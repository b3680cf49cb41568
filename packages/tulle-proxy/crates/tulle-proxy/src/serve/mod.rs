//! An accepted connection: what its first bytes say, which filter chain takes it, TLS, and then its protocol.

pub mod access;
pub mod h1;
pub mod h2;
mod limits;
pub mod logs;
pub mod tcp;
pub mod tls;
mod tunneled;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tulle_config::hcm::Codec;
use tulle_config::{FilterChain, Hcm, Listener, NetworkFilter};
use tulle_connect::Ends;
use tulle_core::Str;
use tulle_core::headers::{Certificate, Described};
use tulle_core::metadata::Metadata;
use tulle_http::h1::conn::Connection;
use tulle_http::{RequestHead, Side, Stream};
use tulle_listen::{Accepted, ConnectionFacts, Inspected, inspect, select_chain};
use tulle_policy::overload::ShedPoint;
use tulle_telemetry::Counter;
use tulle_telemetry::envoy::{HttpStats, ListenerStats};
use tulle_telemetry::istio::PeerRef;

use crate::exchange::record::Record;
use crate::worker::Worker;
use crate::worker::alarm::{Alarm, earlier};
use crate::worker::doors::{Full, Places};
use crate::worker::drain::Present;
use crate::worker::peers::Connected;
use limits::Limited;
use tls::TlsFacts;

/// A downstream connection, as its exchanges know it.
pub struct Client {
    pub id: u64,
    /// The client: by PROXY protocol where that is spoken.
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// `local` is where the client was going, and not the socket's own address: by interception or PROXY protocol.
    pub restored: bool,
    /// Whoever holds the other end of the socket.
    pub direct: SocketAddr,
    pub listener: Arc<Listener>,
    pub chain: Str,
    pub tls: Option<TlsFacts>,
    /// Fields of its PROXY header that endpoints may be told.
    pub fields: Option<Rc<[u8]>>,
    /// What inspection found the client to ask for by SNI.
    pub server_name: Option<Str>,
    /// Metric labels of whoever is at the other end.
    pub source: PeerRef,
    pub http: HttpStats,
    pub present: Present,
    /// The configuration as of which `outdated` was last found out, and the finding.
    checked: Cell<(u64, bool)>,
}

impl Client {
    /// As an endpoint is told of the connection.
    pub fn ends(&self) -> Ends {
        Ends { source: self.peer, destination: self.local, fields: self.fields.clone() }
    }

    /// A request of this client with what routes may ask beside its head.
    pub fn described<'a>(
        &self,
        request: &'a RequestHead,
        metadata: Option<&'a Metadata>,
    ) -> Described<'a, RequestHead> {
        let shown = self.tls.as_ref().is_some_and(|tls| tls.peer_verified);
        // A certificate that does not verify ends the handshake.
        let certificate = Certificate { presented: shown, validated: shown };
        Described { request, metadata, certificate, source: Some(self.peer.ip()) }
    }

    /// Whether the listener has changed or gone since the connection was accepted: such a connection is asked to end,
    /// so that nobody is served by old settings for long.
    pub fn outdated(&self, worker: &Worker) -> bool {
        worker.catch_up();
        let (at, outdated) = self.checked.get();
        if at == worker.applied() {
            return outdated;
        }
        let config = worker.config();
        let current = config.listeners.get(&self.listener.name);
        let outdated = current.is_none_or(|current| !Arc::ptr_eq(current, &self.listener));
        self.checked.set((worker.applied(), outdated));
        outdated
    }
}

/// Who decides about the next request of a connection whose listener has changed.
pub enum Manager {
    /// The one that decided before: the listener is gone, and its connections are being drained.
    Same,
    /// The chain's, as it is now.
    Now(Arc<Hcm>),
    /// There is no such chain any more, so that nothing is allowed.
    Nobody,
}

impl Client {
    /// By the configuration in force: a request is not judged by rules that have been replaced, however old its
    /// connection is.
    pub fn manager(&self, worker: &Worker) -> Manager {
        let config = worker.config();
        let Some(listener) = config.listeners.get(&self.listener.name) else { return Manager::Same };
        let mut chains = listener.chains.iter().chain(&listener.default_chain);
        match chains.find(|chain| chain.name == self.chain).map(|chain| &chain.filter) {
            Some(NetworkFilter::Http(hcm)) => Manager::Now(hcm.clone()),
            Some(NetworkFilter::Tcp(_)) | None => Manager::Nobody,
        }
    }
}

/// Takes a connection; called by the listener for each.
pub fn accepted(worker: &Rc<Worker>, accepted: Accepted) {
    let Ok(places) = admitted(worker, &accepted.listener) else { return };
    let worker = worker.clone();
    let (peers, connected) = (worker.peers.clone(), worker.peers.enter());
    let slot = connected.slot;
    let task = tokio::task::spawn_local(async move { connection(worker, accepted, (connected, places)).await });
    peers.served_by(slot, task.abort_handle());
}

/// Counts a connection as active for as long as it lives, however it ends.
struct Active {
    worker: Rc<Worker>,
    listener: Arc<Listener>,
}

impl Active {
    fn new(worker: Rc<Worker>, listener: Arc<Listener>) -> Active {
        let stats = worker.metrics.listener(&listener.stat_prefix);
        worker.metrics.sheet.inc(stats.downstream_cx_total);
        worker.metrics.sheet.move_by(stats.downstream_cx_active, 1);
        Active { worker, listener }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let stats = self.worker.metrics.listener(&self.listener.stat_prefix);
        self.worker.metrics.sheet.move_by(stats.downstream_cx_active, -1);
    }
}

/// One connection too many: it is closed as it came.
struct TooMany;

/// Whether the limits and the overload manager let a connection in.
fn admitted(worker: &Worker, listener: &Listener) -> Result<Places, TooMany> {
    let refused = |counter: fn(&ListenerStats) -> Counter| {
        worker.metrics.sheet.inc(counter(&worker.metrics.listener(&listener.stat_prefix)));
        TooMany
    };
    if worker.overload.as_ref().is_some_and(|overload| {
        overload.rejects_connection(|| worker.random()) || overload.sheds(ShedPoint::Accept, || worker.random())
    }) {
        return Err(refused(|stats| stats.downstream_cx_overload_reject));
    }
    worker.doors.enter(listener).map_err(|full| match full {
        Full::Process => refused(|stats| stats.downstream_global_cx_overflow),
        Full::Listener => refused(|stats| stats.downstream_cx_overflow),
    })
}

async fn connection(worker: Rc<Worker>, accepted: Accepted, (connected, _places): (Connected, Places)) {
    let Accepted { stream, peer, local, listener } = accepted;
    let present = worker.drain.enter();
    let _active = Active::new(worker.clone(), listener.clone());
    let arrival = Arrival { worker, peer, local, listener, present };
    // A failure before a protocol begins has nobody to be told but the counters.
    if let Some(ready) = arrival.admit(stream, &connected).await {
        ready.serve().await;
    }
}

/// A connection before its chain is known.
struct Arrival {
    worker: Rc<Worker>,
    peer: SocketAddr,
    local: SocketAddr,
    listener: Arc<Listener>,
    present: Present,
}

/// A connection ready to speak its protocol.
struct Ready {
    worker: Rc<Worker>,
    client: Client,
    stream: Stream,
    /// Read during inspection and not used yet.
    seen: Vec<u8>,
    filter: NetworkFilter,
    /// What HTTP inspection found, for plaintext.
    protocols: Vec<Vec<u8>>,
    /// Its places in the chain's limits.
    limited: Limited,
}

impl Arrival {
    async fn admit(self, stream: tokio::net::TcpStream, connected: &Connected) -> Option<Ready> {
        let (inspected, prefixed) = inspect(stream, &self.listener.inspect.at(self.local.port())).await.ok()?;
        let (seen, stream) = prefixed.into_parts();
        let redirected = inspected.original.map(|original| (self.peer, original));
        let restored = inspected.proxied.or(redirected);
        let (peer, local) = restored.unwrap_or((self.peer, self.local));
        let listener = self.listener.clone();
        let Some(chain) = self.chain(&listener, &inspected, (peer, local)) else {
            let worker = self.worker.clone();
            logs::nobodys(&worker, &self.client((peer, local), inspected, None, None));
            return None;
        };
        let limited = limits::enter(&self.worker, &chain.limits).await?;
        let mut accepted_tls = None;
        let mut left = Vec::new();
        let stream = match &chain.tls {
            None => {
                left = seen;
                Stream::Tcp(stream)
            }
            Some(settings) => {
                let limit = chain.transport_connect_timeout;
                let (stream, facts) = tls::accept(&self.worker, settings, (stream, &seen), limit).await?;
                if !connected.presents(&facts.peer_serial, self.worker.tls.contexts()) {
                    return None;
                }
                accepted_tls = Some(facts);
                stream
            }
        };
        let worker = self.worker.clone();
        let (filter, protocols) = (chain.filter.clone(), inspected.application_protocols.clone());
        let client = self.client((peer, local), inspected, Some(chain), accepted_tls);
        if let Err(denial) = access::ask(&worker, &client, &chain.access).await {
            if let NetworkFilter::Tcp(proxy) = &chain.filter {
                tcp::denied(&worker, &client, proxy, denial);
            }
            h1::close(Side::H1(Box::new(Connection::with_input(stream, &left)))).await;
            return None;
        }
        Some(Ready { worker, client, stream, seen: left, filter, protocols, limited })
    }

    fn client(
        self,
        (peer, local): (SocketAddr, SocketAddr),
        inspected: Inspected,
        chain: Option<&FilterChain>,
        tls: Option<TlsFacts>,
    ) -> Client {
        let worker = self.worker;
        let source = tls.as_ref().map_or(worker.metrics.unknown, |tls| worker.metrics.peer(&tls.identity));
        let prefix = match chain.map(|chain| &chain.filter) {
            Some(NetworkFilter::Http(hcm)) => &hcm.stat_prefix,
            Some(NetworkFilter::Tcp(tcp)) => &tcp.stat_prefix,
            None => &self.listener.stat_prefix,
        };
        let http = worker.metrics.http(prefix);
        Client {
            id: worker.next_connection_id(),
            peer,
            local,
            restored: inspected.proxied.is_some() || inspected.original.is_some(),
            direct: self.peer,
            chain: chain.map(|chain| chain.name.clone()).unwrap_or_default(),
            listener: self.listener,
            tls,
            fields: (!inspected.fields.is_empty()).then(|| inspected.fields.into()),
            server_name: inspected.server_name.as_deref().map(Str::from),
            source,
            http,
            present: self.present,
            checked: Cell::new((0, false)),
        }
    }

    fn chain<'l>(
        &self,
        listener: &'l Listener,
        inspected: &Inspected,
        (peer, local): (SocketAddr, SocketAddr),
    ) -> Option<&'l FilterChain> {
        let facts = ConnectionFacts {
            destination: local,
            source: peer,
            direct_source: self.peer,
            server_name: inspected.server_name.as_deref(),
            tls: inspected.tls,
            application_protocols: &inspected.application_protocols,
        };
        let found = select_chain(listener, &facts);
        if found.is_none() {
            let stats = self.worker.metrics.listener(&self.listener.stat_prefix);
            self.worker.metrics.sheet.inc(stats.no_filter_chain_match);
        }
        found
    }
}

/// The first bytes of every HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Ready {
    async fn serve(self) {
        let (worker, client, _limited) = (self.worker, self.client, self.limited);
        match self.filter {
            NetworkFilter::Tcp(proxy) => {
                let conn = Connection::with_input(self.stream, &self.seen);
                tcp::serve(&worker, &client, &proxy, conn).await;
            }
            NetworkFilter::Http(hcm) => {
                let logged = !client.listener.access_logs.is_empty();
                let record = logged.then(|| Box::new(Record::new(worker.now(), worker.clock.wall())));
                let client = Rc::new(client);
                let mut conn = Connection::with_input(self.stream, &self.seen);
                match spoken(&hcm, &client, &self.protocols, &mut conn).await {
                    Some(_) if sheds(&worker, ShedPoint::FirstBytes) => {
                        h1::close(Side::H1(Box::new(conn))).await;
                    }
                    Some(Spoken::Http1) => h1::serve(&worker, &client, &hcm, conn).await,
                    Some(Spoken::Http2) => {
                        let (stream, seen) = conn.into_stream();
                        h2::serve(&worker, client.clone(), hcm, stream, seen).await;
                    }
                    None => {}
                }
                if let Some(record) = record {
                    logs::ended(&worker, &client, *record);
                }
            }
        }
    }
}

/// Whether the overload manager refuses what passes a point.
pub fn sheds(worker: &Worker, point: ShedPoint) -> bool {
    worker.overload.as_ref().is_some_and(|overload| overload.sheds(point, || worker.random()))
}

/// The HTTP that a client speaks.
enum Spoken {
    Http1,
    Http2,
}

/// By configuration, ALPN, inspection, or the preface itself. `None` when the client does not say in time.
async fn spoken(hcm: &Hcm, client: &Client, found: &[Vec<u8>], conn: &mut Connection) -> Option<Spoken> {
    match hcm.codec {
        Codec::Http1 => return Some(Spoken::Http1),
        Codec::Http2 => return Some(Spoken::Http2),
        Codec::Auto => {}
    }
    match client.tls.as_ref().and_then(|tls| tls.alpn.as_deref()) {
        Some(b"h2") => return Some(Spoken::Http2),
        Some(b"http/1.1") => return Some(Spoken::Http1),
        _ => {}
    }
    if found.iter().any(|protocol| protocol == b"h2c") {
        return Some(Spoken::Http2);
    }
    by_preface(hcm, client, conn).await
}

/// Most requests differ from the preface in their first byte. Until that comes the connection counts as idle; the rest of
/// a preface may take as long as a head.
async fn by_preface(hcm: &Hcm, client: &Client, conn: &mut Connection) -> Option<Spoken> {
    let limits = &hcm.timeouts;
    let mut alarm = Alarm::default();
    let after = |limit: Duration| Instant::now() + limit;
    let mut due = earlier(limits.idle.map(after), limits.max_connection_duration.map(after));
    let (mut begun, mut told) = (false, false);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(h2) = conn.poll_starts_with(cx, PREFACE) {
            return Poll::Ready(Some(if h2 { Spoken::Http2 } else { Spoken::Http1 }));
        }
        if !begun && conn.has_input() {
            begun = true;
            due = earlier(due, limits.request_headers.map(after));
        }
        if !told && client.present.poll_draining(cx).is_ready() {
            told = true;
            due = earlier(due, Some(after(h1::FIRST_CALL)));
        }
        alarm.poll(cx, due).map(|()| None)
    })
    .await
}
