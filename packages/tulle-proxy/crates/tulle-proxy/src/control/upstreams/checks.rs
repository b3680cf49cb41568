//! The active health checks of one cluster: a task per host, and how each host stands.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tulle_balance::{Endpoint, EndpointSet};
use tulle_config::Cluster;
use tulle_config::cluster::HealthCheck;
use tulle_connect::Dialer;
use tulle_core::{Address, Rng};
use tulle_telemetry::Registry;
use tulle_telemetry::envoy::ClusterStats;

use super::Task;
use super::probe::Probe;
use super::verdict::{Finding, Traffic, Verdict, together};
use crate::worker::hosts::Check;

/// What all checks need.
pub struct Means {
    pub dialer: Rc<dyn Dialer>,
    /// Tells whether a cluster has had traffic.
    pub registry: Registry,
}

struct Checked {
    endpoint: Endpoint,
    /// One for each kind of check that the cluster has.
    verdicts: Vec<Rc<RefCell<Verdict>>>,
    _tasks: Vec<Task>,
}

impl Checked {
    fn standing(&self) -> Check {
        together(self.verdicts.iter().map(|verdict| verdict.borrow().check()))
    }
}

#[derive(Default)]
pub struct Checks {
    cluster: Option<Arc<Cluster>>,
    hosts: HashMap<Address, Checked>,
}

impl Checks {
    /// Checks exactly the hosts of `endpoints` from here on. Hosts that stay keep their standing, and their task too
    /// unless the way to check them changed.
    pub fn follow(
        &mut self,
        means: &Means,
        cluster: &Arc<Cluster>,
        endpoints: &EndpointSet,
        (tell, rng): (&Rc<dyn Fn()>, &mut Rng),
    ) {
        let same = self.cluster.replace(cluster.clone()).is_some_and(|old| checked_alike(&old, cluster));
        let mut before = std::mem::take(&mut self.hosts);
        if cluster.health_checks.is_empty() {
            return;
        }
        let start = Start { means, cluster, tell };
        for endpoint in endpoints.localities.iter().flat_map(|locality| locality.endpoints.iter()) {
            let earlier = before.remove(&endpoint.address);
            let stays = earlier.as_ref().is_some_and(|old| same && old.endpoint.metadata == endpoint.metadata);
            let checked = match earlier {
                Some(old) if stays => old,
                earlier => {
                    let standing = earlier.map(|old| old.standing()).unwrap_or_default();
                    start.begin(endpoint, standing, rng)
                }
            };
            self.hosts.insert(endpoint.address.clone(), checked);
        }
    }

    /// How every host stands.
    pub fn standing(&self) -> HashMap<Address, Check> {
        self.hosts.iter().map(|(address, host)| (address.clone(), host.standing())).collect()
    }

    /// Every host has been checked at least once.
    pub fn complete(&self) -> bool {
        self.hosts.values().all(|host| host.standing() != Check::Pending)
    }

    /// Takes a host out until its checks pass again.
    pub fn withdraw(&self, host: &Address) {
        if let Some(checked) = self.hosts.get(host) {
            checked.verdicts.iter().for_each(|verdict| verdict.borrow_mut().withdraw());
        }
    }
}

/// What the checks of a cluster's hosts begin with.
struct Start<'a> {
    means: &'a Means,
    cluster: &'a Arc<Cluster>,
    tell: &'a Rc<dyn Fn()>,
}

impl Start<'_> {
    fn begin(&self, endpoint: &Endpoint, standing: Check, rng: &mut Rng) -> Checked {
        let (mut verdicts, mut tasks) = (Vec::new(), Vec::new());
        let unasked = endpoint.metadata.check.as_ref().is_some_and(|check| check.disabled);
        for settings in self.cluster.health_checks.iter().filter(|_| !unasked) {
            let verdict = Rc::new(RefCell::new(Verdict::from(standing)));
            verdicts.push(verdict.clone());
            let settings = Rc::new(settings.clone());
            let turn = Turn { settings, verdict, tell: self.tell.clone(), rng: Rng::seeded(rng.next_u64()) };
            tasks.push(self.task(endpoint, turn));
        }
        Checked { endpoint: endpoint.clone(), verdicts, _tasks: tasks }
    }

    fn task(&self, endpoint: &Endpoint, turn: Turn) -> Task {
        let dialer = self.means.dialer.clone();
        let mut probe = Probe::new(dialer, self.cluster.clone(), endpoint.clone(), &turn.settings);
        let stats = ClusterStats::resolve(&self.means.registry, &self.cluster.stat_name);
        let registry = self.means.registry.clone();
        Task(tokio::task::spawn_local(async move {
            let traffic = || match registry.value(stats.upstream_cx_total) {
                0 => Traffic::None,
                _ => Traffic::Some,
            };
            turn.run(async |settings: &HealthCheck| probe.run(settings).await, traffic).await;
        }))
    }
}

/// Whether hosts are checked in the same way for both.
fn checked_alike(old: &Cluster, new: &Cluster) -> bool {
    let matches = |cluster: &Cluster| -> Vec<_> {
        cluster.transport_matches.iter().map(|m| (m.criteria.clone(), m.transport.clone())).collect()
    };
    old.health_checks == new.health_checks
        && old.transport == new.transport
        && old.bind == new.bind
        && matches(old) == matches(new)
}

/// One host's checks in turn.
struct Turn {
    settings: Rc<HealthCheck>,
    verdict: Rc<RefCell<Verdict>>,
    tell: Rc<dyn Fn()>,
    rng: Rng,
}

impl Turn {
    async fn run(mut self, mut check: impl AsyncFnMut(&HealthCheck) -> Finding, traffic: impl Fn() -> Traffic) {
        let settings = self.settings.clone();
        tokio::time::sleep(settings.initial_jitter.mul_f64(self.rng.unit())).await;
        loop {
            let finding = check(&settings).await;
            let before = self.verdict.borrow().check();
            self.verdict.borrow_mut().note(finding, &settings);
            if self.verdict.borrow().check() != before {
                (self.tell)();
            }
            let pause = self.verdict.borrow().interval(&settings, traffic(), &mut self.rng);
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::tests::settings;
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;
    use tokio::time::Instant;

    /// Runs one host's checks for `seconds` and gives, for each change, when it came and what it was.
    async fn changes(seconds: u64, mut finding: impl FnMut(u64) -> Finding, traffic: Traffic) -> Vec<(u64, Check)> {
        let start = Instant::now();
        let verdict = Rc::new(RefCell::new(Verdict::default()));
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (told, standing) = (seen.clone(), verdict.clone());
        let tell: Rc<dyn Fn()> =
            Rc::new(move || told.borrow_mut().push((start.elapsed().as_secs(), standing.borrow().check())));
        let turn = Turn { settings: Rc::new(settings()), verdict, tell, rng: Rng::seeded(1) };
        let check = async |_: &HealthCheck| finding(start.elapsed().as_secs());
        let _ended = tokio::time::timeout(Duration::from_secs(seconds), turn.run(check, || traffic)).await;
        seen.take()
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_stops_answering_is_out_after_three_checks_and_back_after_two() {
        let dead = |at| if (12..20).contains(&at) { Finding::Unreachable } else { Finding::Passed };
        // Checks at 0, 5, 10, then 15 and 18 fail; 21 passes: never three in a row.
        assert_eq!(changes(60, dead, Traffic::Some).await, [(0, Check::Passing)]);
        let dead = |at| if (12..30).contains(&at) { Finding::Unreachable } else { Finding::Passed };
        // 15, 18 and 21 fail; from then on every 2 s until 31 passes, and 4 s later the next.
        let expected = [(0, Check::Passing), (21, Check::Failing), (35, Check::Passing)];
        assert_eq!(changes(60, dead, Traffic::Some).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_without_traffic_is_checked_once_a_minute() {
        let count = Cell::new(0);
        let counted = |_| {
            count.set(count.get() + 1);
            Finding::Refused
        };
        assert_eq!(changes(121, counted, Traffic::None).await, [(0, Check::Failing)]);
        assert_eq!(count.get(), 3);
    }
}
