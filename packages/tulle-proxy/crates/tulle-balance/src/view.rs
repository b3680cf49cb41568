//! A cluster, or one of its subsets, by priority, health and locality.

use std::rc::Rc;

use tulle_core::Rng;

use crate::config::{LbConfig, LocalityMode};
use crate::edf::Edf;
use crate::endpoints::Health;
use crate::host::Host;
use crate::load::{self, Census, Load, Tier};
use crate::pool::{Draw, Pool};

/// Hosts of one locality at one priority, as input.
#[derive(Debug, Clone)]
pub struct Group {
    pub priority: u32,
    /// For locality-weighted balancing.
    pub weight: Option<u32>,
    pub hosts: Vec<Rc<Host>>,
}

/// Everything a pick needs, rebuilt when membership or health changes.
#[derive(Debug)]
pub struct View {
    priorities: Vec<PriorityHosts>,
    loads: Vec<Load>,
    fail_on_panic: bool,
}

#[derive(Debug)]
struct PriorityHosts {
    healthy: Spread,
    degraded: Spread,
    /// Only where panic makes use of it.
    all: Option<Spread>,
}

/// One pool, or one per locality.
#[derive(Debug)]
enum Spread {
    Flat(Pool),
    Localities { edf: Edf, weights: Box<[f64]>, pools: Box<[Pool]> },
}

impl View {
    /// `groups` in the order of the endpoint set; hosts within a priority keep that order.
    pub fn new(config: &LbConfig, groups: &[Group], overprovisioning: u32, seed: u64) -> Self {
        let count = groups.iter().map(|group| group.priority + 1).max().unwrap_or(0);
        let levels: Vec<Vec<&Group>> =
            (0..count).map(|level| groups.iter().filter(|group| group.priority == level).collect()).collect();
        let census: Vec<Census> = levels.iter().map(|level| take_census(level)).collect();
        let loads = load::loads(&census, overprovisioning, config.panic_threshold);
        let build = Build { config, overprovisioning, seed };
        let priorities = levels.iter().zip(&loads).map(|(level, load)| build.priority(level, load.panic)).collect();
        View { priorities, loads, fail_on_panic: config.fail_traffic_on_panic }
    }

    /// Picks a host.
    pub fn pick(&mut self, draw: Draw, rng: &mut Rng) -> Option<&Rc<Host>> {
        let (level, tier) = match self.loads.first()?.healthy {
            100 => (0, Tier::Healthy),
            _ => load::choose(&self.loads, draw.hash.unwrap_or_else(|| rng.next_u64()))?,
        };
        let panic = self.loads[level].panic;
        if panic && self.fail_on_panic {
            return None;
        }
        let hosts = &mut self.priorities[level];
        let spread = match (&mut hosts.all, tier) {
            (Some(all), _) if panic => all,
            (_, Tier::Healthy) => &mut hosts.healthy,
            (_, Tier::Degraded) => &mut hosts.degraded,
        };
        spread.pick(draw, rng)
    }

    /// Whether any host can be picked without panic.
    pub fn has_healthy(&self) -> bool {
        self.priorities.iter().any(|level| !level.healthy.is_empty() || !level.degraded.is_empty())
    }

    /// Leaves the schedules with the hosts, for the view that replaces this one.
    pub fn retire(&self) {
        for level in &self.priorities {
            // The healthy pools last: their places matter most.
            [Some(&level.degraded), level.all.as_ref(), Some(&level.healthy)]
                .into_iter()
                .flatten()
                .for_each(Spread::retire);
        }
    }
}

fn take_census(level: &[&Group]) -> Census {
    let mut census = Census::default();
    for host in level.iter().flat_map(|group| &group.hosts) {
        census.total += 1;
        match host.health() {
            Health::Healthy => census.healthy += 1,
            Health::Degraded => census.degraded += 1,
            Health::Unhealthy | Health::Draining => {}
        }
    }
    census
}

struct Build<'a> {
    config: &'a LbConfig,
    overprovisioning: u32,
    seed: u64,
}

impl Build<'_> {
    fn priority(&self, level: &[&Group], panic: bool) -> PriorityHosts {
        PriorityHosts {
            healthy: self.spread(level, |host| host.health() == Health::Healthy),
            degraded: self.spread(level, |host| host.health() == Health::Degraded),
            all: panic.then(|| self.flat(level, |_| true)),
        }
    }

    fn flat(&self, level: &[&Group], wanted: impl Fn(&Host) -> bool) -> Spread {
        let hosts = level.iter().flat_map(|group| &group.hosts).filter(|host| wanted(host));
        Spread::Flat(Pool::new(self.config, hosts.cloned().collect(), self.seed))
    }

    fn spread(&self, level: &[&Group], wanted: impl Fn(&Host) -> bool) -> Spread {
        let weighted =
            self.config.locality == LocalityMode::Weighted && level.iter().any(|group| group.weight.is_some());
        if !weighted {
            return self.flat(level, wanted);
        }
        let pools: Vec<Pool> = level
            .iter()
            .map(|group| {
                let hosts = group.hosts.iter().filter(|host| wanted(host)).cloned().collect();
                Pool::new(self.config, hosts, self.seed)
            })
            .collect();
        let weights: Box<[f64]> = level.iter().zip(&pools).map(|(group, pool)| self.effective(group, pool)).collect();
        let edf = Edf::new(weights.iter().enumerate().map(|(item, weight)| (item as u32, *weight, None)));
        Spread::Localities { edf, weights, pools: pools.into() }
    }

    /// A locality's weight, lowered when too few of its hosts are usable (Envoy's `effectiveLocalityWeight`).
    fn effective(&self, group: &Group, pool: &Pool) -> f64 {
        let usable = pool.len() as f64 * f64::from(self.overprovisioning) / 100.0 / group.hosts.len().max(1) as f64;
        f64::from(group.weight.unwrap_or(0)) * usable.min(1.0)
    }
}

impl Spread {
    fn pick(&mut self, draw: Draw, rng: &mut Rng) -> Option<&Rc<Host>> {
        match self {
            Spread::Flat(pool) => pool.pick(draw, rng),
            Spread::Localities { edf, weights, pools } => {
                let at = edf.pick(|item| weights[item as usize])?;
                pools[at as usize].pick(draw, rng)
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Spread::Flat(pool) => pool.is_empty(),
            Spread::Localities { pools, .. } => pools.iter().all(Pool::is_empty),
        }
    }

    fn retire(&self) {
        match self {
            Spread::Flat(pool) => pool.retire(),
            Spread::Localities { pools, .. } => pools.iter().for_each(Pool::retire),
        }
    }
}
