//! What the process has found out about hosts: what names resolve to, and which hosts pass their health checks.
//!
//! Names are looked up and hosts are checked once per process, on the control thread; workers balance by what it
//! publishes here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tulle_balance::EndpointSet;
use tulle_config::store::Generation;
use tulle_config::{Cluster, Discovery};
use tulle_core::{Address, Str};

/// How a host's active health checks stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Not checked yet: counts as failed.
    #[default]
    Pending,
    Passing,
    /// Passing, and the host says that others are to be preferred (`x-envoy-degraded`).
    Degraded,
    Failing,
    /// Failing, and the last check got no answer in time.
    TimedOut,
}

/// What is known of one cluster's hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterHosts {
    /// What the cluster's names resolve to; `None` before the first answer and for clusters without names.
    pub resolved: Option<Arc<EndpointSet>>,
    /// Of every host, where the cluster checks health.
    pub checks: HashMap<Address, Check>,
    /// Every name has been looked up, and every host has been checked, at least once.
    pub settled: bool,
}

impl ClusterHosts {
    pub fn check(&self, address: &Address) -> Check {
        self.checks.get(address).copied().unwrap_or_default()
    }
}

/// By cluster name; only clusters that need it.
pub type Known = Arc<HashMap<Str, Arc<ClusterHosts>>>;

/// A host that said of itself that it must not get requests (`x-envoy-immediate-health-check-fail`).
#[derive(Debug, PartialEq, Eq)]
pub struct Withdrawn {
    pub cluster: Str,
    pub host: Address,
}

/// Where the control thread writes and workers read.
pub struct HostBook {
    known: watch::Sender<Known>,
    /// The configuration that `known` covers.
    covered: AtomicU64,
    begun: AtomicBool,
    withdraw: mpsc::UnboundedSender<Withdrawn>,
    withdrawn: Mutex<Option<mpsc::UnboundedReceiver<Withdrawn>>>,
}

impl Default for HostBook {
    fn default() -> HostBook {
        let (withdraw, withdrawn) = mpsc::unbounded_channel();
        HostBook {
            known: watch::channel(Known::default()).0,
            covered: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            withdraw,
            withdrawn: Mutex::new(Some(withdrawn)),
        }
    }
}

impl HostBook {
    pub fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Replaces what is known of `cluster`; `None` when it is gone. Says nothing when nothing changed.
    pub fn learn(&self, cluster: &Str, hosts: Option<ClusterHosts>) {
        self.known.send_if_modified(|known| {
            if known.get(cluster).map(|old| &**old) == hosts.as_ref() {
                return false;
            }
            let map = Arc::make_mut(known);
            match hosts {
                Some(hosts) => map.insert(cluster.clone(), Arc::new(hosts)),
                None => map.remove(cluster),
            };
            true
        });
    }

    /// Tells that `known` has an entry for every cluster of `generation` that needs one.
    pub fn covers(&self, generation: Generation) {
        self.covered.store(generation.0, Ordering::Release);
    }

    /// Whether requests find hosts: everything in `generation` has been looked up and checked once. Stays true.
    pub fn ready(&self, generation: Generation) -> bool {
        let settled = || self.known.borrow().values().all(|hosts| hosts.settled);
        if !self.begun.load(Ordering::Relaxed) && self.covered.load(Ordering::Acquire) >= generation.0 && settled() {
            self.begun.store(true, Ordering::Relaxed);
        }
        self.begun.load(Ordering::Relaxed)
    }

    /// Takes a host out until it passes its checks again.
    pub fn withdraw(&self, cluster: Str, host: Address) {
        // Without a control thread nobody checks health.
        let _unheard = self.withdraw.send(Withdrawn { cluster, host });
    }

    /// What [`Self::withdraw`] is told; once.
    pub fn withdrawn(&self) -> Option<mpsc::UnboundedReceiver<Withdrawn>> {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Whether a cluster's hosts are known only to the control thread.
pub fn needs_watching(cluster: &Cluster) -> bool {
    !cluster.health_checks.is_empty() || matches!(cluster.discovery, Discovery::StrictDns(_) | Discovery::LogicalDns(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_once_everything_was_looked_up_and_stays_so() {
        let book = HostBook::default();
        let unsettled = ClusterHosts::default();
        assert!(!book.ready(Generation(1)));
        book.learn(&"a".into(), Some(unsettled.clone()));
        book.covers(Generation(1));
        assert!(!book.ready(Generation(1)));
        book.learn(&"a".into(), Some(ClusterHosts { settled: true, ..unsettled.clone() }));
        assert!(!book.ready(Generation(2)));
        assert!(book.ready(Generation(1)));
        book.learn(&"a".into(), Some(unsettled));
        assert!(book.ready(Generation(2)));
    }

    #[test]
    fn readers_hear_of_changes_only() {
        let book = HostBook::default();
        let mut reader = book.subscribe();
        book.learn(&"a".into(), Some(ClusterHosts::default()));
        assert!(reader.has_changed().unwrap());
        reader.mark_unchanged();
        book.learn(&"a".into(), Some(ClusterHosts::default()));
        assert!(!reader.has_changed().unwrap());
        book.learn(&"a".into(), None);
        assert!(reader.has_changed().unwrap() && book.known().is_empty());
    }
}
