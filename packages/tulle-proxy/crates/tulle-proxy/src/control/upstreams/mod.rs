//! Looks after hosts for all workers: looks names up and checks health, once per process, and publishes what it finds.
//!
//! Runs on the control thread, in a `LocalSet`. One task per name and one per checked host; [`Overseer`] keeps them in
//! step with the configuration.

mod checks;
mod dns;
mod probe;
mod verdict;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tulle_balance::EndpointSet;
use tulle_config::{Cluster, Config, Discovery};
use tulle_core::{Address, Rng, Str};

use crate::worker::Launch;
use crate::worker::hosts::{ClusterHosts, HostBook, needs_watching};
use crate::worker::tls::TlsCache;
use checks::{Checks, Means};
use dns::{Answers, Taken};
pub use dns::{of_family as answers_of_family, system as look_up};

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One cluster that is looked after.
struct Watched {
    cluster: Arc<Cluster>,
    /// From configuration, or from `names`.
    endpoints: Arc<EndpointSet>,
    names: Option<Names>,
    checks: Checks,
    /// Once true, requests do not wait for what comes later: a further name or host.
    settled: Cell<bool>,
}

struct Names {
    answers: Answers,
    _lookups: Vec<Task>,
}

pub struct Overseer {
    book: Arc<HostBook>,
    means: Means,
    rng: RefCell<Rng>,
    watched: RefCell<HashMap<Str, Watched>>,
}

/// Looks after the hosts of whatever configuration `launch.store` holds, for ever.
pub async fn run(launch: &Launch) {
    let published = Arc::new(Notify::new());
    let wake = published.clone();
    launch.store.on_publish(move || wake.notify_one());
    let tls = Rc::new(TlsCache::new(launch.contexts.clone(), &launch.store.load()));
    let overseer = Rc::new(Overseer {
        book: launch.hosts.clone(),
        means: Means { dialer: tls.clone(), registry: launch.registry.clone() },
        rng: RefCell::new(Rng::seeded(launch.seed)),
        watched: RefCell::default(),
    });
    let Some(mut withdrawn) = launch.hosts.withdrawn() else { return };
    loop {
        let generation = launch.store.generation();
        let config = launch.store.load();
        tls.secrets_changed(&config.secrets);
        overseer.follow(&config);
        launch.hosts.covers(generation);
        loop {
            tokio::select! {
                () = published.notified() => break,
                Some(gone) = withdrawn.recv() => overseer.withdraw(&gone.cluster, &gone.host),
            }
        }
    }
}

impl Overseer {
    /// Takes over a configuration.
    fn follow(self: &Rc<Self>, config: &Config) {
        let gone: Vec<Str> = {
            let watched = self.watched.borrow();
            let wanted = |name: &Str| config.clusters.get(name).is_some_and(|cluster| needs_watching(cluster));
            watched.keys().filter(|name| !wanted(name)).cloned().collect()
        };
        for name in gone {
            self.watched.borrow_mut().remove(&name);
            self.book.learn(&name, None);
        }
        for cluster in config.clusters.values().filter(|cluster| needs_watching(cluster)) {
            self.watch(config, cluster);
        }
    }

    fn watch(self: &Rc<Self>, config: &Config, cluster: &Arc<Cluster>) {
        let configured = match &cluster.discovery {
            Discovery::Static(set) => Some(set.clone()),
            Discovery::Eds(name, _) => Some(config.endpoints.get(name).cloned().unwrap_or_default()),
            _ => None,
        };
        let mut watched = self.watched.borrow_mut();
        let entry = watched.entry(cluster.name.clone()).or_insert_with(|| Watched {
            cluster: cluster.clone(),
            endpoints: Arc::default(),
            names: None,
            checks: Checks::default(),
            settled: Cell::new(false),
        });
        if !Arc::ptr_eq(&entry.cluster, cluster) || (entry.names.is_none() && configured.is_none()) {
            entry.names = self.names(cluster);
            entry.cluster = cluster.clone();
        }
        // Among the names may be addresses, which need no answer.
        let fixed =
            entry.names.as_ref().filter(|names| names.answers.complete()).map(|names| names.answers.endpoints());
        if let Some(endpoints) = configured.or(fixed.map(Arc::new)) {
            entry.endpoints = endpoints;
        }
        self.refresh(entry);
    }

    /// Begins to look up a cluster's names.
    fn names(self: &Rc<Self>, cluster: &Cluster) -> Option<Names> {
        let (names, taken) = match &cluster.discovery {
            Discovery::StrictDns(names) => (names, Taken::All),
            Discovery::LogicalDns(names) => (names, Taken::One),
            _ => return None,
        };
        let lookup = |index| {
            let (overseer, names, name) = (self.clone(), names.clone(), cluster.name.clone());
            let seed = self.rng.borrow_mut().next_u64();
            Task(tokio::task::spawn_local(async move {
                let tell = |index, answer| overseer.answered(&name, index, answer);
                dns::follow(names, index, seed, dns::system, tell).await;
            }))
        };
        let lookups = (0..names.endpoints.len()).map(lookup).collect();
        Some(Names { answers: Answers::new(names.clone(), taken), _lookups: lookups })
    }

    fn answered(self: &Rc<Self>, cluster: &Str, index: usize, answer: Vec<std::net::SocketAddr>) {
        let mut watched = self.watched.borrow_mut();
        let Some(entry) = watched.get_mut(cluster) else { return };
        let Some(names) = &mut entry.names else { return };
        names.answers.note(index, answer);
        let found = names.answers.endpoints();
        if *entry.endpoints != found {
            entry.endpoints = Arc::new(found);
        }
        self.refresh(entry);
    }

    /// Brings the checks in step with the endpoints, and publishes.
    fn refresh(self: &Rc<Self>, entry: &mut Watched) {
        let overseer = Rc::downgrade(self);
        let cluster = entry.cluster.name.clone();
        let tell: Rc<dyn Fn()> = Rc::new(move || {
            if let Some(overseer) = overseer.upgrade()
                && let Some(entry) = overseer.watched.borrow().get(&cluster)
            {
                overseer.publish(entry);
            }
        });
        entry.checks.follow(&self.means, &entry.cluster, &entry.endpoints, (&tell, &mut self.rng.borrow_mut()));
        self.publish(entry);
    }

    fn withdraw(&self, cluster: &Str, host: &Address) {
        if let Some(entry) = self.watched.borrow().get(cluster) {
            entry.checks.withdraw(host);
            self.publish(entry);
        }
    }

    fn publish(&self, entry: &Watched) {
        let looked_up = entry.names.as_ref().is_none_or(|names| names.answers.complete());
        let answered = entry.names.is_some() && (looked_up || !entry.endpoints.is_empty());
        let settled = entry.settled.get() || (looked_up && entry.checks.complete());
        entry.settled.set(settled);
        let hosts = ClusterHosts {
            resolved: answered.then(|| entry.endpoints.clone()),
            checks: entry.checks.standing(),
            settled,
        };
        self.book.learn(&entry.cluster.name, Some(hosts));
    }
}
