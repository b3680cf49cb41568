//! The balancer of one cluster on one worker.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tulle_core::{Address, Nanos, Rng, Str};

use crate::config::{LbConfig, LbPolicy};
use crate::endpoints::{Endpoint, EndpointSet, Health};
use crate::host::{Host, HostId};
use crate::load::{Census, Tier};
use crate::pool::Draw;
use crate::subset::Subsets;
use crate::view::{Choice, Group, Setting, View};
use crate::zone::LocalCluster;

/// What a pick may depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickContext<'a> {
    /// From the route's hash policies; without one, hash policies pick at random.
    pub hash: Option<u64>,
    /// Required labels, sorted by key (route and weighted cluster `metadata_match`).
    pub subset: &'a [(Str, Str)],
    /// Hosts already tried for this request.
    pub tried: &'a [HostId],
    /// Hosts that have all of one of these labels are avoided too.
    pub unwanted: &'a [Box<[(Str, Str)]>],
    /// How often to pick again when a host to avoid comes up; the last pick is then taken anyway.
    pub attempts: u32,
    /// Priorities that are left out while another one has a host.
    pub without: &'a [u32],
    /// This priority, and which of its hosts, whatever the loads say.
    pub only: Option<(u32, Tier)>,
    /// The host that the request names, where it may; taken while its health is one of those that `LbConfig` lets.
    pub named: Option<&'a Address>,
    /// No host but the named one will do.
    pub strict: bool,
}

impl PickContext<'_> {
    fn avoids(&self, host: &Host) -> bool {
        let labels = &host.endpoint.metadata.lb;
        self.tried.contains(&host.id) || self.unwanted.iter().any(|unwanted| labels.contains_all(unwanted))
    }
}

/// Why there is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHost {
    #[error("the cluster has no hosts")]
    Empty,
    #[error("no healthy host")]
    NoneHealthy,
    #[error("no subset fits the request")]
    NoSubset,
    #[error("the host that the request must go to has left")]
    Gone,
}

/// Balances one cluster on one worker.
#[derive(Debug)]
pub struct Balancer {
    config: Arc<LbConfig>,
    overprovisioning: u32,
    weighted_health: bool,
    local: Option<Arc<LocalCluster>>,
    seed: u64,
    next_id: u64,
    groups: Vec<Group>,
    hosts: Vec<Rc<Host>>,
    whole: View,
    subsets: Option<Subsets>,
}

impl Balancer {
    /// `seed` decides where rotations start, so that many proxies do not start on the same host.
    pub fn new(config: Arc<LbConfig>, set: &EndpointSet, now: Nanos, seed: u64) -> Self {
        let mut balancer = Balancer {
            whole: View::new(
                Setting {
                    config: &config,
                    overprovisioning: set.overprovisioning,
                    weighted_health: set.weighted_health,
                    seed,
                    local: None,
                },
                &[],
            ),
            config,
            overprovisioning: set.overprovisioning,
            weighted_health: set.weighted_health,
            local: None,
            seed,
            next_id: 0,
            groups: Vec::new(),
            hosts: Vec::new(),
            subsets: None,
        };
        balancer.update(set, now);
        balancer
    }

    /// Takes over new endpoints. Hosts whose address and transport stay keep their id, counters and state. Returns the
    /// hosts that left.
    pub fn update(&mut self, set: &EndpointSet, now: Nanos) -> Vec<Rc<Host>> {
        self.whole.retire();
        let mut earlier: HashMap<Address, Rc<Host>> =
            self.hosts.drain(..).map(|host| (host.endpoint.address.clone(), host)).collect();
        let mut seen = HashSet::new();
        let groups = set
            .localities
            .iter()
            .map(|locality| Group {
                priority: locality.priority,
                locality: locality.locality.clone(),
                weight: locality.weight,
                hosts: locality
                    .endpoints
                    .iter()
                    // An address counts once, as in Envoy.
                    .filter(|endpoint| seen.insert(endpoint.address.clone()))
                    .map(|endpoint| take_over(&mut earlier, &mut self.next_id, endpoint, now))
                    .collect(),
            })
            .collect();
        self.groups = groups;
        self.hosts = self.groups.iter().flat_map(|group| &group.hosts).cloned().collect();
        self.overprovisioning = set.overprovisioning;
        self.weighted_health = set.weighted_health;
        self.rebuild();
        let gone: Vec<Rc<Host>> = earlier.into_values().collect();
        gone.iter().for_each(|host| host.set_removed());
        gone
    }

    /// Takes over changed settings; hosts keep their ids, counters and state.
    pub fn set_config(&mut self, config: Arc<LbConfig>) {
        self.whole.retire();
        self.config = config;
        self.rebuild();
    }

    /// Takes over where the proxies like this one are, for zone-aware routing.
    pub fn set_local(&mut self, local: Option<Arc<LocalCluster>>) {
        if self.local != local {
            self.whole.retire();
            self.local = local;
            self.rebuild();
        }
    }

    /// Returns every ejected host, for when outlier detection is switched off or starts over.
    pub fn clear_ejections(&mut self) {
        if self.hosts.iter().any(|host| host.ejected()) {
            self.whole.retire();
            self.hosts.iter().for_each(|host| host.set_ejected(false));
            self.rebuild();
        }
    }

    /// Picks a host; allocates nothing.
    pub fn pick(&mut self, context: &PickContext<'_>, rng: &mut Rng, now: Nanos) -> Result<Rc<Host>, NoHost> {
        if let Some(address) = context.named {
            match self.usable(address) {
                Err(why) if context.strict => return Err(why),
                Err(_) => {}
                Ok(host) => return Ok(host),
            }
        }
        if self.hosts.is_empty() {
            return Err(NoHost::Empty);
        }
        let mut last = None;
        for attempt in 0..=context.attempts {
            let choice = Choice {
                draw: Draw { hash: context.hash, attempt, now },
                without: context.without,
                only: context.only,
            };
            let picked = match &mut self.subsets {
                None => self.whole.pick(&choice, rng),
                Some(subsets) => {
                    subsets.pick(context.subset, &mut self.whole, (&choice, rng)).map_err(|_| NoHost::NoSubset)?
                }
            };
            let host = picked.ok_or(NoHost::NoneHealthy)?;
            if !context.avoids(host) {
                return Ok(host.clone());
            }
            last = Some(host.clone());
        }
        last.ok_or(NoHost::NoneHealthy)
    }

    /// The host at `address`, if its health lets requests name it.
    fn usable(&self, address: &Address) -> Result<Rc<Host>, NoHost> {
        let host = self.hosts.iter().find(|host| host.endpoint.address == *address).ok_or(NoHost::Gone)?;
        if self.config.override_health.contains(&host.health()) { Ok(host.clone()) } else { Err(NoHost::NoneHealthy) }
    }

    /// The priority that a host belongs to.
    pub fn priority_of(&self, host: HostId) -> Option<u32> {
        let group = self.groups.iter().find(|group| group.hosts.iter().any(|known| known.id == host))?;
        Some(group.priority)
    }

    /// What each priority has.
    pub fn census(&self) -> &[Census] {
        self.whole.census()
    }

    pub fn overprovisioning(&self) -> u32 {
        self.overprovisioning
    }

    /// Whether a usable host is left without these priorities.
    pub fn has_others(&self, priorities: &[u32]) -> bool {
        self.whole.loads_without(priorities).is_some()
    }

    /// An answer of `host` took this long. Costs nothing unless the policy asks for it.
    pub fn observe(&self, host: &Host, took: Duration, now: Nanos) {
        if let LbPolicy::PeakEwma(settings) = &self.config.policy {
            host.observe(took, settings, now);
        }
    }

    /// All hosts, for `/clusters` and health checks.
    pub fn hosts(&self) -> &[Rc<Host>] {
        &self.hosts
    }

    /// Tells the results of all hosts' active health checks: healthy, degraded or unhealthy. Returns the hosts that begin
    /// or cease to fail.
    pub fn set_checks(&mut self, found: impl Fn(&Host) -> Health, now: Nanos) -> Vec<Rc<Host>> {
        let fails = |host: &Host| found(host) == Health::Unhealthy;
        let mut degraded = false;
        for host in &self.hosts {
            degraded |= host.set_degraded(found(host) == Health::Degraded);
        }
        let changed = |host: &&Rc<Host>| host.check_failed() != fails(host);
        let changed: Vec<Rc<Host>> = self.hosts.iter().filter(changed).cloned().collect();
        if degraded || !changed.is_empty() {
            self.whole.retire();
            for host in &changed {
                host.set_check_failed(!host.check_failed());
                if !host.check_failed() {
                    host.recovered(now);
                }
            }
            self.rebuild();
        }
        changed
    }

    /// Tells that outlier detection ejected or returned a host.
    pub fn set_ejected(&mut self, host: HostId, ejected: bool) {
        self.change_health(host, |host| host.set_ejected(ejected));
    }

    fn change_health(&mut self, id: HostId, change: impl FnOnce(&Host)) {
        let Some(host) = self.hosts.iter().find(|host| host.id == id) else { return };
        let before = host.health();
        change(host);
        if host.health() != before {
            self.whole.retire();
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        // Another start each time: under frequent updates a fixed one would favour the same host.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let setting = Setting {
            config: &self.config,
            overprovisioning: self.overprovisioning,
            weighted_health: self.weighted_health,
            seed: self.seed,
            local: self.local.as_deref(),
        };
        let build = |groups: &[Group]| View::new(setting, groups);
        let subsets = self.config.subsets.as_ref().map(|subsets| Subsets::new(subsets, &self.groups, &build));
        let whole = build(&self.groups);
        (self.whole, self.subsets) = (whole, subsets);
    }
}

/// The host for `endpoint`: the earlier one when nothing changed, its successor when only settings did, else a new one.
/// Another transport (TLS or not) makes another host, since its connections cannot be used on.
fn take_over(earlier: &mut HashMap<Address, Rc<Host>>, next_id: &mut u64, endpoint: &Endpoint, now: Nanos) -> Rc<Host> {
    let same_transport = |host: &Host| host.endpoint.metadata.transport == endpoint.metadata.transport;
    let found = earlier.get(&endpoint.address).is_some_and(|host| same_transport(host));
    match found.then(|| earlier.remove(&endpoint.address)).flatten() {
        Some(host) if host.endpoint == *endpoint => host,
        Some(host) => Rc::new(host.succeeded_by(endpoint.clone())),
        None => {
            *next_id += 1;
            Rc::new(Host::new(HostId(*next_id), endpoint.clone(), now))
        }
    }
}
