//! The published configuration: immutable snapshots that workers swap in when the generation moves.
//!
//! The control thread builds the next [`Config`] from the last one, replaces only the entries that changed, and
//! publishes it. A worker keeps the `Arc<Config>` it runs on, looks at [`ConfigStore::generation`] (one atomic load)
//! at the top of its loop, and swaps when it moved. What changed shows in [`changes`]: unchanged entries keep their `Arc`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tulle_balance::EndpointSet;
use tulle_core::Str;
use tulle_route::RouteConfig;
use tulle_route::scopes::Scopes;

use crate::cluster::Cluster;
use crate::filters::Extension;
use crate::listener::Listener;
use crate::tls::Secret;

/// Resources by name.
pub type Resources<T> = Arc<HashMap<Str, Arc<T>>>;

/// Everything the data path runs on, at one moment. Cloning costs a few reference counts.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub listeners: Resources<Listener>,
    /// Only those received by RDS; inline ones live in their connection manager.
    pub routes: Resources<RouteConfig>,
    pub clusters: Resources<Cluster>,
    /// By EDS service name. A cluster whose entry is missing has no endpoints yet.
    pub endpoints: Resources<EndpointSet>,
    pub secrets: Resources<Secret>,
    /// Filters' settings received by ECDS.
    pub extensions: Resources<Extension>,
    /// Those received by SRDS.
    pub scopes: Arc<Scopes>,
    /// Clusters that requests asked for and the control plane does not have, with a number that each such answer has
    /// for itself.
    pub unknown_clusters: Arc<HashMap<Str, u64>>,
    pub readiness: Readiness,
}

/// How far start-up has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// The first listeners and clusters of the control plane have not all arrived yet.
    #[default]
    Initializing,
    /// The first configuration is complete; `Config::listeners` is what must be bound.
    Complete,
}

/// Counts publications; 0 before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// How one resource differs between two snapshots.
#[derive(Clone, Debug)]
pub enum Change<T> {
    Added(Str, Arc<T>),
    Updated { name: Str, old: Arc<T>, new: Arc<T> },
    Removed(Str, Arc<T>),
}

/// What differs from `old` to `new`, in no particular order. Costs nothing when the maps are the same `Arc`.
pub fn changes<T>(old: &Resources<T>, new: &Resources<T>) -> Vec<Change<T>> {
    if Arc::ptr_eq(old, new) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (name, value) in new.iter() {
        match old.get(name) {
            None => found.push(Change::Added(name.clone(), value.clone())),
            Some(before) if !Arc::ptr_eq(before, value) => {
                found.push(Change::Updated { name: name.clone(), old: before.clone(), new: value.clone() });
            }
            Some(_) => {}
        }
    }
    let removed = old.iter().filter(|(name, _)| !new.contains_key(*name));
    found.extend(removed.map(|(name, value)| Change::Removed(name.clone(), value.clone())));
    found
}

type Listening = Box<dyn Fn() + Send + Sync>;

/// Where the control thread publishes and workers read.
#[derive(Default)]
pub struct ConfigStore {
    generation: AtomicU64,
    current: Mutex<Arc<Config>>,
    wakers: Mutex<Vec<Listening>>,
}

impl ConfigStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of the latest publication: one relaxed-cost atomic load, meant for every turn of a loop.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// The latest configuration.
    pub fn load(&self) -> Arc<Config> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The latest configuration if it is newer than `seen`, which is moved on.
    pub fn load_newer(&self, seen: &mut Generation) -> Option<Arc<Config>> {
        let now = self.generation();
        if now == *seen {
            return None;
        }
        *seen = now;
        Some(self.load())
    }

    /// Replaces the configuration and wakes whoever asked. Only the control thread calls this.
    pub fn publish(&self, config: Config) -> Generation {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        let generation = Generation(self.generation.fetch_add(1, Ordering::AcqRel) + 1);
        for wake in self.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            wake();
        }
        generation
    }

    /// `wake` is called after each publication, on the publishing thread: it must only signal (no work, no blocking).
    pub fn on_publish(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(wake));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &Arc<u32>)]) -> Resources<u32> {
        Arc::new(entries.iter().map(|(name, value)| (Arc::from(*name), (*value).clone())).collect())
    }

    #[test]
    fn only_new_arcs_count_as_changes() {
        let (same, before, after) = (Arc::new(1), Arc::new(2), Arc::new(2));
        let old = map(&[("same", &same), ("updated", &before), ("removed", &before)]);
        let new = map(&[("same", &same), ("updated", &after), ("added", &after)]);
        let mut seen: Vec<String> = changes(&old, &new)
            .iter()
            .map(|change| match change {
                Change::Added(name, _) => format!("+{name}"),
                Change::Updated { name, .. } => format!("~{name}"),
                Change::Removed(name, _) => format!("-{name}"),
            })
            .collect();
        seen.sort();
        assert_eq!(seen, ["+added", "-removed", "~updated"]);
        assert!(changes(&new, &new).is_empty());
    }

    #[test]
    fn a_reader_sees_each_publication_once() {
        let store = ConfigStore::new();
        let mut seen = store.generation();
        assert!(store.load_newer(&mut seen).is_none());
        store.publish(Config { readiness: Readiness::Complete, ..Config::default() });
        assert_eq!(store.load_newer(&mut seen).unwrap().readiness, Readiness::Complete);
        assert!(store.load_newer(&mut seen).is_none());
    }

    #[test]
    fn publication_wakes() {
        let store = ConfigStore::new();
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        store.on_publish(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        store.publish(Config::default());
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
