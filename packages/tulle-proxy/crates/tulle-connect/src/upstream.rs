//! One cluster on one worker: its balancer, its hosts' pools and its circuit breakers.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tulle_balance::outlier::HostResult;
use tulle_balance::{
    Balancer, EndpointSet, Health, Host, HostId, LocalCluster, NoHost, OutlierDetector, OutlierEvent, PickContext,
};
use tulle_config::hcm::{HeaderCase, Http2Options};
use tulle_config::{Cluster, HttpProtocol};
use tulle_core::hash::FastMap;
use tulle_core::{Address, FractionalPercent, Nanos, Rng};
use tulle_http::Stream;
use tulle_http::h1::Case;
use tulle_http::h1::conn::{Connection, Trailers};
use tulle_http::h2::{Config, Link, Pulse, Rhythm};
use tulle_policy::Priority;

use crate::breaker::{Admission, Breaker, Breakers, Overflow, Resource};
use crate::dial::{self, Dialer, Way};
use crate::error::DialError;
use crate::h2pool::H2Conn;
use crate::lease::{H1Lease, H2Lease, Lease, Wanted, negotiated_h2};
use crate::pool::{Counted, HostPool, Idle, Life, Waiters};
use crate::whose::Whose;

/// What every upstream of a worker shares.
#[derive(Clone)]
pub struct Shared {
    pub dialer: Rc<dyn Dialer>,
    pub clock: Rc<dyn Fn() -> Nanos>,
    /// Counts that workers have in common.
    pub breakers: Arc<Breakers>,
    /// Told when some upstream's [`Upstream::next_tick`] comes earlier than it did.
    pub ejections: Rc<Notify>,
    /// How many connections were made.
    pub connections: Rc<Cell<u64>>,
}

pub struct Upstream {
    config: RefCell<Arc<Cluster>>,
    endpoints: RefCell<Arc<EndpointSet>>,
    pub balancer: RefCell<Balancer>,
    outlier: RefCell<Option<OutlierDetector>>,
    pools: RefCell<FastMap<HostId, Rc<HostPool>>>,
    breaker: Rc<Breaker>,
    waiters: Rc<Waiters>,
    shared: Shared,
    retired: Cell<bool>,
}

/// How one request is treated by breakers and pools.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'c> {
    pub wanted: Wanted,
    pub priority: Priority,
    /// Whose requests may share the connection, where not everybody's may: the endpoint is told of the client
    /// ([`Cluster::tells_client`]), or the request says the server's name.
    pub client: Option<&'c Whose>,
}

impl Upstream {
    pub fn new(config: Arc<Cluster>, endpoints: Arc<EndpointSet>, shared: Shared, seed: u64) -> Upstream {
        let now = (shared.clock)();
        let balancer = Balancer::new(Arc::new(config.lb.clone()), &endpoints, now, seed);
        let common = shared.breakers.of(&config.name, &config.circuit_breakers);
        let upstream = Upstream {
            outlier: RefCell::new(config.outlier.clone().map(|settings| OutlierDetector::new(settings, now))),
            config: RefCell::new(config),
            endpoints: RefCell::new(endpoints),
            balancer: RefCell::new(balancer),
            pools: RefCell::default(),
            breaker: Rc::new(Breaker::new(common)),
            waiters: Rc::default(),
            shared,
            retired: Cell::new(false),
        };
        upstream.hosts_changed();
        upstream
    }

    /// Tells the outlier detector who there is now.
    fn hosts_changed(&self) {
        if let Some(detector) = self.outlier.borrow_mut().as_mut() {
            detector.set_hosts(self.balancer.borrow().hosts().iter().map(|host| host.id));
        }
    }

    /// Tells outlier detection how a host did.
    pub fn report(&self, host: HostId, result: HostResult, rng: &mut Rng) {
        let event = match self.outlier.borrow_mut().as_mut() {
            Some(detector) => detector.report(host, result, (self.shared.clock)(), rng),
            None => None,
        };
        if let Some(event) = event {
            self.eject(event);
        }
    }

    fn eject(&self, event: OutlierEvent) {
        let (host, ejected) = match event {
            OutlierEvent::Ejected { host, .. } => (host, true),
            OutlierEvent::Returned { host } => (host, false),
        };
        if ejected {
            self.shared.ejections.notify_one();
        }
        self.balancer.borrow_mut().set_ejected(host, ejected);
    }

    /// When the outlier detector's periodic work is due; `None` while it has none that could not wait a second.
    pub fn next_tick(&self) -> Option<Nanos> {
        self.outlier.borrow().as_ref().filter(|detector| detector.is_pressing()).map(OutlierDetector::next_tick)
    }

    /// The outlier detector's periodic work, when it is due.
    pub fn tick(&self, rng: &mut Rng) {
        let now = (self.shared.clock)();
        let events = match self.outlier.borrow_mut().as_mut() {
            Some(detector) if detector.next_tick() <= now => detector.tick(now, rng),
            _ => return,
        };
        events.into_iter().for_each(|event| self.eject(event));
    }

    pub fn config(&self) -> Arc<Cluster> {
        self.config.borrow().clone()
    }

    pub fn config_ref(&self) -> Ref<'_, Arc<Cluster>> {
        self.config.borrow()
    }

    /// Takes over a changed cluster or changed endpoints. Connections stay unless the way to make them changed;
    /// those of hosts that left are drained.
    pub fn update(&self, config: Arc<Cluster>, endpoints: Arc<EndpointSet>) {
        let now = (self.shared.clock)();
        let old = self.config.replace(config.clone());
        if !Arc::ptr_eq(&old, &config) {
            if old.outlier != config.outlier {
                self.outlier.replace(config.outlier.clone().map(|settings| OutlierDetector::new(settings, now)));
                // The new detector knows nothing of what the old one ejected and would never return it.
                self.balancer.borrow_mut().clear_ejections();
            }
            if old.lb != config.lb {
                self.balancer.borrow_mut().set_config(Arc::new(config.lb.clone()));
            }
            if !same_connections(&old, &config) {
                self.drain_all();
            }
        }
        if !Arc::ptr_eq(&self.endpoints.replace(endpoints.clone()), &endpoints) {
            let gone = self.balancer.borrow_mut().update(&endpoints, now);
            let mut pools = self.pools.borrow_mut();
            gone.iter().filter_map(|host| pools.remove(&host.id)).for_each(|pool| pool.drain());
        }
        self.hosts_changed();
    }

    /// Tells what active health checks say of each host.
    pub fn set_checks(&self, found: impl Fn(&Address) -> Health) {
        let now = (self.shared.clock)();
        let changed = self.balancer.borrow_mut().set_checks(|host| found(&host.endpoint.address), now);
        let (failing, passing): (Vec<Rc<Host>>, Vec<Rc<Host>>) =
            changed.into_iter().partition(|host| host.check_failed());
        for host in passing {
            let event = self.outlier.borrow_mut().as_mut().and_then(|detector| detector.passed_check(host.id, now));
            if let Some(event) = event {
                self.eject(event);
            }
        }
        if self.config.borrow().close_connections_on_host_health_failure {
            let mut pools = self.pools.borrow_mut();
            failing.iter().filter_map(|host| pools.remove(&host.id)).for_each(|pool| pool.drain());
        }
    }

    fn drain_all(&self) {
        self.pools.borrow_mut().drain().for_each(|(_, pool)| pool.drain());
    }

    /// The cluster is gone: idle connections close now, busy ones when they are done.
    pub fn retire(&self) {
        self.retired.set(true);
        self.drain_all();
    }

    pub fn pick(&self, context: &PickContext<'_>, rng: &mut Rng) -> Result<Rc<Host>, NoHost> {
        let now = (self.shared.clock)();
        self.balancer.borrow_mut().pick(context, rng, now)
    }

    /// Tells peak EWMA how long a host took; costs nothing with other policies.
    pub fn observe(&self, host: &Host, took: Duration) {
        let now = (self.shared.clock)();
        self.balancer.borrow().observe(host, took, now);
    }

    /// Takes over where the proxies like this one are, for zone-aware routing.
    pub fn set_local(&self, local: Option<Arc<LocalCluster>>) {
        self.balancer.borrow_mut().set_local(local);
    }

    /// The share of requests that are dropped before a host is chosen, when this is one of them (`drop_overloads`).
    pub fn drops(&self, random: impl FnOnce() -> u64) -> Option<FractionalPercent> {
        let share = self.endpoints.borrow().drop;
        (share != FractionalPercent::NEVER && share.hits(random())).then_some(share)
    }

    /// Counts a request against the breaker until the guard is dropped.
    pub fn admit_request(&self, priority: Priority) -> Result<Admission, Overflow> {
        let config = self.config.borrow();
        let limits = config.circuit_breakers.limits(priority);
        if let Some(interval) = limits.budget_interval() {
            self.breaker.note_request(priority, (self.shared.clock)(), interval);
        }
        self.breaker.admit(Resource::Request, priority, limits)
    }

    /// Whether the breaker lets another connection be made.
    pub fn allows_connection(&self, priority: Priority) -> bool {
        let config = self.config.borrow();
        self.breaker.allows(Resource::Connection, priority, config.circuit_breakers.limits(priority))
    }

    pub fn admit_retry(&self, priority: Priority) -> Result<Admission, Overflow> {
        let config = self.config.borrow();
        let limits = config.circuit_breakers.limits(priority);
        match limits.budget_interval() {
            Some(interval) => self.breaker.admit_retry(priority, limits, ((self.shared.clock)(), interval)),
            None => self.breaker.admit(Resource::Retry, priority, limits),
        }
    }

    fn pool(&self, host: &Host) -> Rc<HostPool> {
        let pool = self.pools.borrow_mut().entry(host.id).or_default().clone();
        pool.closed.set(self.retired.get() || host.removed());
        pool
    }

    /// A connection to `host` from the pool, if one is ready at once.
    pub fn try_lease(&self, host: &Rc<Host>, terms: Terms<'_>) -> Option<Lease> {
        self.pooled(&self.pool(host), terms)
    }

    /// A connection to `host`, from the pool or new.
    ///
    /// # Errors
    /// When a breaker is open, or no connection comes about within the cluster's connect timeout.
    pub async fn lease(&self, host: &Rc<Host>, terms: Terms<'_>) -> Result<Lease, DialError> {
        let pool = self.pool(host);
        loop {
            if let Some(lease) = self.pooled(&pool, terms) {
                return Ok(lease);
            }
            let config = self.config();
            let limits = config.circuit_breakers.limits(terms.priority);
            let pending = self.breaker.admit(Resource::Pending, terms.priority, limits);
            let _pending = pending.map_err(|Overflow| DialError::Overflow)?;
            if terms.wanted == Wanted::Http2 && pool.h2.is_dialing() {
                pool.h2.dialed().await;
                continue;
            }
            // A host without any connection gets one in any case: nobody else would ever serve its queue.
            let fits_host = config.circuit_breakers.per_host_max_connections.is_none_or(|most| pool.open.get() < most);
            let fits = fits_host && self.breaker.allows(Resource::Connection, terms.priority, limits);
            if !fits && pool.open.get() > 0 {
                if terms.wanted == Wanted::Tcp {
                    return Err(DialError::Overflow);
                }
                if terms.client.is_some() && pool.give_up_one() {
                    // It was of no use to this client.
                    continue;
                }
                self.waiters.wait().await;
                continue;
            }
            return self.dial(&pool, host, &config, terms).await;
        }
    }

    fn pooled(&self, pool: &Rc<HostPool>, Terms { wanted, client, .. }: Terms<'_>) -> Option<Lease> {
        let now = (self.shared.clock)();
        if matches!(wanted, Wanted::Http2 | Wanted::Alpn)
            && let Some(conn) = pool.h2.take(client, |idle, made| self.keeps(now, idle, made))
        {
            return Some(Lease::H2(self.stream_on(conn)));
        }
        if matches!(wanted, Wanted::Http1 | Wanted::Alpn) {
            let Idle { conn, mut life, since } = pool.take(client, |since, made| self.keeps(now, Some(since), made))?;
            life.used += 1;
            let idle_for = now - since;
            let max_requests = self.config.borrow().limits.max_requests_per_connection;
            return Some(Lease::H1(conn, H1Lease { pool: pool.clone(), life, max_requests, idle_for }));
        }
        None
    }

    /// A place for a stream.
    fn stream_on(&self, conn: Rc<H2Conn>) -> H2Lease {
        let now = (self.shared.clock)();
        let idle_for = if conn.active.get() == 0 { now - conn.idle_since.get() } else { Duration::ZERO };
        let after = h2_options(&self.config.borrow().protocol).and_then(|o| o.keepalive?.connection_idle_interval);
        if after.is_some_and(|after| idle_for >= after) {
            // Leaves before the request, so that a dead connection is found out soon.
            conn.link.ping();
        }
        conn.active.set(conn.active.get() + 1);
        conn.used.set(conn.used.get() + 1);
        let max = self.config.borrow().limits.max_requests_per_connection;
        if max.is_some_and(|max| conn.used.get() >= max) {
            conn.closed.set(true);
        }
        H2Lease { conn, clock: self.shared.clock.clone(), idle_for }
    }

    async fn dial(
        &self,
        pool: &Rc<HostPool>,
        host: &Host,
        config: &Cluster,
        terms: Terms<'_>,
    ) -> Result<Lease, DialError> {
        let admission = self.breaker.count_in(Resource::Connection, terms.priority);
        pool.open.set(pool.open.get() + 1);
        let counted = Counted { _admission: admission, pool: Rc::downgrade(pool), waiters: self.waiters.clone() };
        let client = terms.client.cloned().map(Box::new);
        let mut life = Life { made: (self.shared.clock)(), used: 1, counted, client, way: Rc::default() };
        let guard = (terms.wanted == Wanted::Http2).then(|| pool.h2.dial_begins());
        let making = async {
            let alpn = offer(config, terms.wanted);
            let dialed = dial::dial_for(&self.shared.dialer, config, &host.endpoint, alpn, terms.client).await?;
            let (stream, way) = dialed;
            let id = self.shared.connections.get() + 1;
            self.shared.connections.set(id);
            life.way = Rc::new(Way { id, ..way });
            if terms.wanted == Wanted::Http2 || (terms.wanted == Wanted::Alpn && negotiated_h2(&stream)) {
                let conn = start_h2(stream, &config.protocol, life);
                pool.h2.conns.borrow_mut().push(conn.clone());
                return Ok(Lease::H2(self.stream_on(conn)));
            }
            let max_requests = config.limits.max_requests_per_connection;
            let mut conn = Box::new(Connection::new(stream));
            if let Some(http1) = config.http1() {
                if http1.header_case == HeaderCase::Proper {
                    conn.case = Case::Words;
                }
                if http1.enable_trailers {
                    conn.trailer_mode = Trailers::Forward;
                }
            }
            Ok(Lease::H1(conn, H1Lease { pool: pool.clone(), life, max_requests, idle_for: Duration::ZERO }))
        };
        let made = tokio::time::timeout(config.connect_timeout, making).await;
        drop(guard);
        made.unwrap_or(Err(DialError::Timeout))
    }

    /// Whether a connection that was made then, and has been idle since, may be used on.
    fn keeps(&self, now: Nanos, idle_since: Option<Nanos>, made: Nanos) -> bool {
        let limits = &self.config.borrow().limits;
        idle_since.is_none_or(|since| limits.idle_timeout.is_none_or(|limit| now - since < limit))
            && limits.max_connection_duration.is_none_or(|limit| now - made < limit)
    }

    /// Closes connections that have been idle or open for too long, and pools of hosts that are gone.
    pub fn sweep(&self) {
        let now = (self.shared.clock)();
        let keep = |idle_since: Nanos, made: Nanos| self.keeps(now, Some(idle_since), made);
        let mut pools = self.pools.borrow_mut();
        pools.values().for_each(|pool| pool.sweep(keep));
        pools.retain(|_, pool| !pool.is_unused());
    }

    /// Open connections, requests in flight and requests waiting, of both priorities.
    pub fn load(&self) -> (u32, u32, u32) {
        let sum =
            |resource| self.breaker.count(resource, Priority::Default) + self.breaker.count(resource, Priority::High);
        (sum(Resource::Connection), sum(Resource::Request), sum(Resource::Pending))
    }
}

/// Whether connections made for one version of a cluster still fit the other.
fn same_connections(old: &Cluster, new: &Cluster) -> bool {
    let matches = |c: &Cluster| -> Vec<_> {
        c.transport_matches.iter().map(|m| (m.criteria.clone(), m.transport.clone())).collect()
    };
    old.transport == new.transport
        && old.protocol == new.protocol
        && old.egress == new.egress
        && old.bind == new.bind
        && old.tls_name == new.tls_name
        && old.pool_per_client == new.pool_per_client
        && matches(old) == matches(new)
}

/// The ALPN to offer instead of the settings' own.
fn offer(config: &Cluster, wanted: Wanted) -> &'static [&'static [u8]] {
    let chosen_here = matches!(config.protocol, HttpProtocol::UseDownstream { .. });
    match wanted {
        Wanted::Tcp => &[],
        Wanted::Alpn => &[b"h2", b"http/1.1"],
        Wanted::Http1 if chosen_here => &[b"http/1.1"],
        Wanted::Http2 if chosen_here => &[b"h2"],
        Wanted::Http1 | Wanted::Http2 => &[],
    }
}

/// Windows are what bounds memory: what configuration asks for is cut to 1 MiB a stream and 4 MiB a connection.
pub fn h2_windows(protocol: &HttpProtocol) -> Config {
    let options = h2_options(protocol).cloned().unwrap_or_default();
    Config {
        stream_window: options.initial_stream_window.clamp(65_535, 1 << 20),
        connection_window: options.initial_connection_window.clamp(65_535, 4 << 20),
        max_streams: options.max_concurrent_streams,
        header_list: 60 * 1024,
        extended_connect: false,
    }
}

fn h2_options(protocol: &HttpProtocol) -> Option<&Http2Options> {
    match protocol {
        HttpProtocol::Http1(_) => None,
        HttpProtocol::Http2(http2) | HttpProtocol::UseDownstream { http2, .. } | HttpProtocol::Alpn { http2, .. } => {
            Some(http2)
        }
    }
}

/// Starts a connection: a task of its own reads from it and ends with it.
fn start_h2(stream: Stream, protocol: &HttpProtocol, life: Life) -> Rc<H2Conn> {
    let link = Link::client(stream, h2_windows(protocol));
    let keepalive = h2_options(protocol).and_then(|options| options.keepalive);
    let seed = life.made.0;
    let mut pulse = keepalive.map(|k| Pulse::new(Rhythm { interval: k.interval, timeout: k.timeout }, seed));
    let conn = Rc::new(H2Conn {
        link: link.clone(),
        active: Cell::new(0),
        used: Cell::new(0),
        made: life.made,
        idle_since: Cell::new(life.made),
        closed: Cell::new(false),
        client: life.client.clone(),
        way: life.way.clone(),
    });
    let watched = Rc::downgrade(&conn);
    tokio::task::spawn_local(async move {
        // How it ended shows on each of its streams.
        std::future::poll_fn(|cx| {
            if link.poll_drive(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some(pulse) = &mut pulse {
                pulse.poll(cx, &link);
            }
            Poll::Pending
        })
        .await;
        if let Some(conn) = watched.upgrade() {
            conn.closed.set(true);
        }
        drop(life);
    });
    conn
}
