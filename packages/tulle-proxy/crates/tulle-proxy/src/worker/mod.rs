//! One worker: the state of a thread that serves. Nothing here is shared with another thread, so nothing is locked.

pub mod alarm;
pub mod clock;
pub mod dns;
pub mod drain;
pub mod logs;
pub mod metrics;
pub mod threads;
pub mod tls;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tulle_balance::EndpointSet;
use tulle_config::{Cluster, Config, Discovery, RouteSource};
use tulle_connect::{Shared, Upstream};
use tulle_core::{Nanos, Rng, Str};
use tulle_route::RouteConfig;

use clock::Clock;
use drain::Drain;
use logs::Logs;
use metrics::{Metrics, TargetMetrics};
use tls::TlsCache;

pub use threads::{Launch, Status, Workers};

/// A cluster as requests use it: its connections and its counters.
pub struct Target {
    pub upstream: Upstream,
    pub metrics: TargetMetrics,
}

pub struct Worker {
    pub clock: Rc<Clock>,
    pub rng: RefCell<Rng>,
    pub drain: Rc<Drain>,
    pub logs: Rc<Logs>,
    pub metrics: Metrics,
    pub tls: Rc<TlsCache>,
    config: RefCell<Arc<Config>>,
    targets: RefCell<HashMap<Str, Rc<Target>>>,
    shared: Shared,
    connection_ids: Cell<u64>,
    /// Counts configurations taken over.
    applied: Cell<u64>,
}

impl Worker {
    /// `seed` differs between workers and between processes.
    pub fn new(launch: &Launch, seed: u64) -> Rc<Worker> {
        let clock = Rc::new(Clock::new(launch.started));
        let config = launch.store.load();
        let tls = Rc::new(TlsCache::new(launch.contexts.clone(), config.secrets.clone()));
        let ticking = clock.clone();
        let shared = Shared { dialer: tls.clone(), clock: Rc::new(move || ticking.now()) };
        Rc::new(Worker {
            clock,
            rng: RefCell::new(Rng::seeded(seed)),
            drain: Rc::default(),
            logs: Rc::default(),
            metrics: Metrics::new(launch),
            tls,
            config: RefCell::new(config),
            targets: RefCell::default(),
            shared,
            applied: Cell::new(0),
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

    /// The routes that a connection manager uses now; `None` while its RDS resource has not arrived.
    pub fn routes(&self, source: &RouteSource) -> Option<Arc<RouteConfig>> {
        match source {
            RouteSource::Inline(routes) => Some(routes.clone()),
            RouteSource::Rds(name) => self.config.borrow().routes.get(name).cloned(),
        }
    }

    /// The cluster of this name, with its pools made on first use.
    pub fn target(self: &Rc<Self>, name: &str) -> Option<Rc<Target>> {
        if let Some(found) = self.targets.borrow().get(name) {
            return Some(found.clone());
        }
        let config = self.config();
        let cluster = config.clusters.get(name)?.clone();
        let endpoints = endpoints_of(&config, &cluster).unwrap_or_default();
        let upstream = Upstream::new(cluster.clone(), endpoints, self.shared.clone(), self.random());
        let metrics = self.metrics.target(&cluster);
        let target = Rc::new(Target { upstream, metrics });
        self.targets.borrow_mut().insert(cluster.name.clone(), target.clone());
        if let Discovery::StrictDns(names) | Discovery::LogicalDns(names) = &cluster.discovery {
            dns::follow(self, &target, &cluster, names.clone());
        }
        Some(target)
    }

    /// Takes over a newer configuration. Exchanges in flight finish on what they began with.
    pub fn apply(&self, config: Arc<Config>) {
        self.tls.secrets_changed(&config.secrets);
        self.config.replace(config.clone());
        self.applied.set(self.applied.get() + 1);
        self.targets.borrow_mut().retain(|name, target| match config.clusters.get(name) {
            Some(cluster) => {
                if let Some(endpoints) = endpoints_of(&config, cluster) {
                    target.upstream.update(cluster.clone(), endpoints);
                }
                true
            }
            None => {
                target.upstream.retire();
                false
            }
        });
    }

    /// Housekeeping between requests: idle connections, health of ejected hosts, log lines.
    pub fn sweep(&self) {
        for target in self.targets.borrow().values() {
            target.upstream.sweep();
            target.upstream.tick(&mut self.rng.borrow_mut());
        }
    }
}

/// The endpoints that configuration knows; `None` where they come from DNS.
fn endpoints_of(config: &Config, cluster: &Cluster) -> Option<Arc<EndpointSet>> {
    match &cluster.discovery {
        Discovery::Static(set) => Some(set.clone()),
        Discovery::Eds(name) => Some(config.endpoints.get(name).cloned().unwrap_or_default()),
        Discovery::StrictDns(_) | Discovery::LogicalDns(_) | Discovery::OriginalDst => None,
    }
}
