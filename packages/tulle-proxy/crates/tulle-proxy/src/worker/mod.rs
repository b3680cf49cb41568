//! One worker: the state of a thread that serves. Nothing on the data path is locked; what limits hold for the whole
//! process is counted in atomics.

pub mod alarm;
pub mod called;
pub mod clock;
pub mod doors;
pub mod drain;
pub mod dynamic;
pub mod guard;
pub mod hosts;
pub mod keys;
pub mod logs;
pub mod metrics;
pub mod overload;
pub mod peers;
pub mod stand_in;
pub mod target;
pub mod threads;
pub mod tls;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tulle_balance::{EndpointSet, LocalCluster, Locality, LocalityMode};
use tulle_config::hcm::{ScopeSource, ScopedRoutes};
use tulle_config::store::{ConfigStore, Generation};
use tulle_config::{Cluster, Config, RouteSource};
use tulle_connect::Dialer as _;
use tulle_connect::{Shared, Upstream};
use tulle_core::hash::FastMap;
use tulle_core::{Nanos, Rng, Str};
use tulle_http::RequestHead;
use tulle_route::RouteConfig;
use tulle_route::scopes::ScopeRoutes;
use tulle_xds::demands::Demands;

use clock::Clock;
use doors::Doors;
use drain::Drain;
use dynamic::Dynamic;
use hosts::{HostBook, Known};
use logs::Logs;
use metrics::Metrics;
use overload::Overload;
use peers::Peers;
use target::endpoints_of;
use tls::TlsCache;

pub use target::Target;
pub use threads::{Launch, Status, Workers};

pub struct Worker {
    pub clock: Rc<Clock>,
    pub rng: RefCell<Rng>,
    pub drain: Rc<Drain>,
    pub peers: Rc<Peers>,
    pub logs: Rc<Logs>,
    pub metrics: Metrics,
    pub tls: Rc<TlsCache>,
    pub hosts: Arc<HostBook>,
    pub keys: keys::WorkerKeys,
    /// `None`: nothing is shed.
    pub overload: Option<Arc<Overload>>,
    /// The cluster that this proxy says it belongs to.
    pub own_cluster: Str,
    pub doors: Arc<Doors>,
    known: RefCell<Known>,
    config: RefCell<Arc<Config>>,
    targets: RefCell<FastMap<Str, Rc<Target>>>,
    pub dynamic: Dynamic,
    store: Arc<ConfigStore>,
    /// The configuration that was last looked for, by requests that must not be judged by an older one.
    seen: Cell<Generation>,
    shared: Shared,
    /// This proxy's place, and the cluster of the proxies like it.
    home: Option<(Locality, Str)>,
    connection_ids: Cell<u64>,
    /// Counts configurations taken over.
    applied: Cell<u64>,
    /// One has been taken over.
    renewed: Notify,
    /// One with other listeners has.
    relisted: Notify,
    demands: Arc<Demands>,
}

impl Worker {
    /// `seed` differs between workers and between processes.
    pub fn new(launch: &Launch, seed: u64) -> Rc<Worker> {
        let clock = Rc::new(Clock::new(launch.started));
        let seen = launch.store.generation();
        let config = launch.store.load();
        let tls = Rc::new(TlsCache::new(launch.contexts.clone(), &config));
        let ticking = clock.clone();
        let shared = Shared {
            dialer: tls.clone(),
            clock: Rc::new(move || ticking.now()),
            breakers: launch.breakers.clone(),
            ejections: Rc::default(),
            connections: Rc::default(),
        };
        Rc::new(Worker {
            clock,
            rng: RefCell::new(Rng::seeded(seed)),
            drain: Rc::default(),
            peers: Rc::default(),
            logs: Rc::default(),
            metrics: Metrics::new(launch),
            tls,
            hosts: launch.hosts.clone(),
            keys: keys::WorkerKeys::default(),
            overload: launch.overload.clone(),
            own_cluster: launch.node.cluster.clone(),
            doors: launch.doors.clone(),
            known: RefCell::new(launch.hosts.known()),
            config: RefCell::new(config),
            targets: RefCell::default(),
            dynamic: Dynamic::default(),
            store: launch.store.clone(),
            seen: Cell::new(seen),
            shared,
            home: launch.local_cluster.clone().map(|name| (launch.node.locality.clone(), name)),
            applied: Cell::new(0),
            renewed: Notify::new(),
            relisted: Notify::new(),
            demands: launch.demands.clone(),
            connection_ids: Cell::new(seed << 32 & 0xffff_0000_0000),
        })
    }

    pub fn now(&self) -> Nanos {
        self.clock.now()
    }

    pub fn random(&self) -> u64 {
        self.rng.borrow_mut().next_u64()
    }

    pub fn next_connection_id(&self) -> u64 {
        let id = self.connection_ids.get() + 1;
        self.connection_ids.set(id);
        id
    }

    /// Moves on whenever a configuration is taken over: cheaper to compare than configurations are.
    pub fn applied(&self) -> u64 {
        self.applied.get()
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Ends when a configuration with other listeners is taken over.
    pub fn relisted(&self) -> Notified<'_> {
        self.relisted.notified()
    }

    /// The routes that a connection manager uses for a request now; `None` while their resource has not arrived, and
    /// where the request is in no scope.
    pub fn routes(&self, source: &RouteSource, request: &RequestHead) -> Option<Arc<RouteConfig>> {
        match source {
            RouteSource::Inline(routes) => Some(routes.clone()),
            RouteSource::Rds(name, _) => self.config.borrow().routes.get(name).cloned(),
            RouteSource::Scoped(scoped) => self.scoped(scoped, request),
        }
    }

    fn scoped(&self, scoped: &ScopedRoutes, request: &RequestHead) -> Option<Arc<RouteConfig>> {
        let key = scoped.builder.key(request)?;
        let config = self.config.borrow();
        let scope = match &scoped.scopes {
            ScopeSource::Inline(scopes) => scopes.get(&key)?,
            ScopeSource::Srds(_) => config.scopes.get(&key)?,
        };
        match &scope.routes {
            ScopeRoutes::Inline(routes) => Some(routes.clone()),
            ScopeRoutes::Named(name) => config.routes.get(name).cloned(),
        }
    }

    /// Asks the control plane for a cluster, and ends when it is there or is known not to exist.
    pub async fn discover(&self, name: &Str) {
        let denied = |worker: &Worker| worker.config.borrow().unknown_clusters.get(name).copied();
        let before = denied(self);
        self.demands.ask(name);
        loop {
            let renewed = self.renewed.notified();
            if self.config.borrow().clusters.contains_key(name) || denied(self).is_some_and(|now| Some(now) != before) {
                return;
            }
            renewed.await;
        }
    }

    /// The cluster of this name, with its pools made on first use.
    pub fn target(self: &Rc<Self>, name: &str) -> Option<Rc<Target>> {
        if let Some(found) = self.targets.borrow().get(name) {
            return Some(found.clone());
        }
        let config = self.config();
        let cluster = config.clusters.get(name)?.clone();
        let known = self.known.borrow().get(name).cloned();
        let endpoints = endpoints_of(&config, &cluster, known.as_deref()).unwrap_or_default();
        let upstream = Upstream::new(cluster.clone(), endpoints, self.shared.clone(), self.random());
        upstream.set_local(self.local(&config, &cluster));
        let metrics = self.metrics.target(&cluster);
        let target = Rc::new(Target::new(upstream, metrics, known));
        target.watch_over(self.now());
        self.targets.borrow_mut().insert(cluster.name.clone(), target.clone());
        Some(target)
    }

    /// A target that is kept elsewhere than by its cluster's name.
    pub fn new_target(&self, cluster: &Arc<Cluster>, endpoints: Arc<EndpointSet>) -> Target {
        let upstream = Upstream::new(cluster.clone(), endpoints, self.shared.clone(), self.random());
        Target::new(upstream, self.metrics.target(cluster), None)
    }

    /// Where the control plane listens.
    pub fn own_servers(&self) -> &[SocketAddr] {
        self.tls.own_servers()
    }

    /// Takes over a configuration that has been published, and so acknowledged, and that the loop has not come to yet:
    /// whoever is told that a rule is in force may rely on it.
    pub fn catch_up(&self) {
        let newest = self.store.generation();
        if self.seen.replace(newest) != newest {
            self.apply(self.store.load());
        }
    }

    /// Takes over a newer configuration. Exchanges in flight finish on what they began with.
    pub fn apply(&self, config: Arc<Config>) {
        self.tls.secrets_changed(&config.secrets);
        let before = self.config.replace(config.clone());
        self.applied.set(self.applied.get() + 1);
        self.renewed.notify_waiters();
        let kept = |(name, listener)| config.listeners.get(name).is_some_and(|now| Arc::ptr_eq(now, listener));
        if !before.listeners.iter().all(kept) {
            self.relisted.notify_waiters();
        }
        self.dynamic.keep(|name| config.clusters.get(name).cloned());
        self.targets.borrow_mut().retain(|name, target| match config.clusters.get(name) {
            Some(cluster) => {
                target.apply(&config, cluster, self.known.borrow().get(name).cloned());
                target.upstream.set_local(self.local(&config, cluster));
                target.watch_over(self.now());
                true
            }
            None => {
                target.upstream.retire();
                false
            }
        });
    }

    /// Where the proxies like this one are, for a cluster that routes by zones.
    fn local(&self, config: &Config, cluster: &Cluster) -> Option<Arc<LocalCluster>> {
        let (own, name) = self.home.as_ref().filter(|_| matches!(cluster.lb.locality, LocalityMode::ZoneAware(_)))?;
        let home = config.clusters.get(name)?;
        let set = endpoints_of(config, home, self.known.borrow().get(name).map(|known| &**known))?;
        Some(Arc::new(LocalCluster::new(own.clone(), &set)))
    }

    /// Takes over what the control thread has newly found out about hosts.
    pub fn learn(&self, known: Known) {
        let config = self.config();
        for (name, target) in self.targets.borrow().iter() {
            target.learn(&config, known.get(name).cloned());
        }
        self.known.replace(known);
    }

    /// Housekeeping between requests: idle connections, revoked ones, tokens, outlier detection.
    pub fn sweep(&self) {
        self.peers.cut_revoked(self.tls.contexts());
        self.tls.cut_revoked();
        self.keys.tokens.borrow_mut().sweep();
        self.targets.borrow().values().for_each(|target| target.upstream.sweep());
        self.dynamic.sweep(self.now());
        self.tick();
    }

    /// Outlier detection's periodic work, where it is due.
    pub fn tick(&self) {
        let rng = &mut self.rng.borrow_mut();
        self.targets.borrow().values().for_each(|target| target.upstream.tick(rng));
        self.dynamic.each(|target| target.upstream.tick(rng));
    }

    /// When some cluster's outlier detection has something to do. What begins to be busy later shows at the next
    /// [`Worker::sweep`], or is told by [`Worker::ejected`].
    pub fn next_tick(&self) -> Option<Nanos> {
        let mut next = self.targets.borrow().values().filter_map(|target| target.upstream.next_tick()).min();
        self.dynamic.each(|target| next = next.into_iter().chain(target.upstream.next_tick()).min());
        next
    }

    /// Waits until a host is ejected.
    pub async fn ejected(&self) {
        self.shared.ejections.notified().await;
    }
}
