//! A cluster as requests on one worker use it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tulle_balance::{EndpointSet, Health};
use tulle_config::{Cluster, Config, Discovery};
use tulle_connect::Upstream;
use tulle_core::{Address, Nanos};

use super::guard::Guard;
use super::hosts::{Check, ClusterHosts, needs_watching};
use super::metrics::TargetMetrics;

/// Its connections, its counters, and what is known of its hosts.
pub struct Target {
    pub upstream: Upstream,
    pub metrics: TargetMetrics,
    /// From the control thread; `None` while that is nothing, or nothing is needed.
    known: RefCell<Option<Arc<ClusterHosts>>>,
    guard: RefCell<Option<Rc<Guard>>>,
    settled: Cell<bool>,
    settling: Notify,
}

impl Target {
    pub fn new(upstream: Upstream, metrics: TargetMetrics, known: Option<Arc<ClusterHosts>>) -> Target {
        let (known_yet, settled, settling) = (RefCell::default(), Cell::new(true), Notify::new());
        let target = Target { upstream, metrics, known: known_yet, guard: RefCell::default(), settled, settling };
        target.judge(known);
        target
    }

    /// The state of its own extensions; `None` where it has none.
    #[inline]
    pub fn guard(&self) -> Option<Rc<Guard>> {
        self.guard.borrow().clone()
    }

    /// Brings that state in step with the configuration. What is known stays while the settings do.
    pub fn watch_over(&self, now: Nanos) {
        let config = self.upstream.config();
        let mut guard = self.guard.borrow_mut();
        match &config.own {
            None => *guard = None,
            Some(own) if guard.as_ref().is_some_and(|guard| guard.is_for(own)) => {}
            Some(own) => *guard = Some(Rc::new(Guard::new(own, now))),
        }
    }

    /// Whether its names have been looked up and its hosts' health has been checked, where that is needed.
    pub fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// Whether hosts are found for each call ([`super::stand_in`]).
    pub fn by_call(&self) -> bool {
        self.upstream.config_ref().discovery.by_call()
    }

    /// Waits for that, not longer than connecting may take.
    pub async fn settled(&self) {
        let limit = self.upstream.config_ref().connect_timeout;
        let settling = async {
            while !self.settled.get() {
                self.settling.notified().await;
            }
        };
        let _in_time = tokio::time::timeout(limit, settling).await;
    }

    /// Takes over a changed cluster, or changed endpoints.
    pub fn apply(&self, config: &Config, cluster: &Arc<Cluster>, known: Option<Arc<ClusterHosts>>) {
        let endpoints = endpoints_of(config, cluster, known.as_deref());
        self.upstream.update(cluster.clone(), endpoints.unwrap_or_default());
        self.judge(known);
    }

    /// Takes over what has newly been found out about its hosts.
    pub fn learn(&self, config: &Config, known: Option<Arc<ClusterHosts>>) {
        let same = |new: &Arc<ClusterHosts>, old: &Arc<ClusterHosts>| Arc::ptr_eq(new, old);
        let unchanged = match (&known, &*self.known.borrow()) {
            (Some(new), Some(old)) => same(new, old),
            (None, None) => true,
            _ => false,
        };
        if !unchanged {
            let cluster = self.upstream.config();
            self.apply(config, &cluster, known);
        }
    }

    fn judge(&self, known: Option<Arc<ClusterHosts>>) {
        let checked = !self.upstream.config_ref().health_checks.is_empty();
        let check = |address: &Address| known.as_ref().map(|hosts| hosts.check(address)).unwrap_or_default();
        self.upstream.set_checks(|address| match check(address) {
            _ if !checked => Health::Healthy,
            Check::Passing => Health::Healthy,
            Check::Degraded => Health::Degraded,
            Check::Pending | Check::Failing | Check::TimedOut => Health::Unhealthy,
        });
        let needed = needs_watching(&self.upstream.config_ref());
        self.settled.set(!needed || known.as_ref().is_some_and(|hosts| hosts.settled));
        if self.settled.get() {
            self.settling.notify_waiters();
        }
        self.known.replace(known);
    }
}

/// The endpoints that configuration tells, or that names resolved to; `None` before they did.
pub fn endpoints_of(config: &Config, cluster: &Cluster, known: Option<&ClusterHosts>) -> Option<Arc<EndpointSet>> {
    match &cluster.discovery {
        Discovery::Static(set) => Some(set.clone()),
        Discovery::Eds(name, _) => Some(config.endpoints.get(name).cloned().unwrap_or_default()),
        Discovery::StrictDns(_) | Discovery::LogicalDns(_) => known?.resolved.clone(),
        _ => None,
    }
}
