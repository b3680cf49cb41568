//! A cluster, or one of its subsets, by priority, health and locality.

use std::rc::Rc;

use tulle_core::Rng;

use crate::config::{LbConfig, LocalityMode, ZoneAware};
use crate::edf::Edf;
use crate::endpoints::{Health, Locality};
use crate::host::Host;
use crate::load::{self, Census, Load, Tier, Weights};
use crate::pool::{Draw, Pool};
use crate::zone::{self, LocalCluster, ZoneRouting, ZoneSize};

/// Hosts of one locality at one priority, as input.
#[derive(Debug, Clone)]
pub struct Group {
    pub priority: u32,
    pub locality: Locality,
    /// For locality-weighted balancing.
    pub weight: Option<u32>,
    pub hosts: Vec<Rc<Host>>,
}

/// Everything a pick needs, rebuilt when membership or health changes.
#[derive(Debug)]
pub struct View {
    priorities: Vec<PriorityHosts>,
    loads: Vec<Load>,
    census: Vec<Census>,
    overprovisioning: u32,
    fail_on_panic: bool,
}

/// What one pick of a view may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub draw: Draw,
    /// Priorities that are left out while another one has a host.
    pub without: &'a [u32],
    /// This priority and tier, whatever the loads say.
    pub only: Option<(u32, Tier)>,
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
    Zones(Box<Zones>),
}

/// The own zone first, where its hosts suffice.
#[derive(Debug)]
struct Zones {
    settings: ZoneAware,
    routing: ZoneRouting,
    pools: Box<[Pool]>,
    /// For requests that do not look at zones.
    whole: Pool,
}

/// What views are built from, beside the hosts.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    pub config: &'a LbConfig,
    pub overprovisioning: u32,
    /// The weights of hosts decide how healthy a priority is.
    pub weighted_health: bool,
    pub seed: u64,
    /// The proxies like this one, for zone-aware routing.
    pub local: Option<&'a LocalCluster>,
}

impl View {
    /// `groups` in the order of the endpoint set; hosts within a priority keep that order.
    pub fn new(setting: Setting<'_>, groups: &[Group]) -> Self {
        let Setting { config, overprovisioning, .. } = setting;
        let count = groups.iter().map(|group| group.priority + 1).max().unwrap_or(0);
        let levels: Vec<Vec<&Group>> =
            (0..count).map(|level| groups.iter().filter(|group| group.priority == level).collect()).collect();
        let census: Vec<Census> = levels.iter().map(|level| take_census(level, setting.weighted_health)).collect();
        let loads = load::loads(&census, overprovisioning, config.panic_threshold);
        let build = Build(setting);
        let priorities = levels.iter().zip(&loads).map(|(level, load)| build.priority(level, load.panic)).collect();
        View { priorities, loads, census, overprovisioning, fail_on_panic: config.fail_traffic_on_panic }
    }

    /// Picks a host.
    pub fn pick(&mut self, choice: &Choice<'_>, rng: &mut Rng) -> Option<&Rc<Host>> {
        let draw = choice.draw;
        let other = (!choice.without.is_empty()).then(|| self.loads_without(choice.without)).flatten();
        let loads = other.as_ref().unwrap_or(&self.loads);
        let (level, tier) = match (choice.only, loads.first()?.healthy) {
            (Some((level, tier)), _) => (level as usize, tier),
            (None, 100) => (0, Tier::Healthy),
            _ => load::choose(loads, draw.hash.unwrap_or_else(|| rng.next_u64()))?,
        };
        let panic = self.loads.get(level)?.panic;
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

    pub fn census(&self) -> &[Census] {
        &self.census
    }

    /// The loads without some priorities; `None` when no other has a usable host.
    pub fn loads_without(&self, priorities: &[u32]) -> Option<Vec<Load>> {
        let left = self.census.iter().zip(0u32..).map(|(one, level)| match priorities.contains(&level) {
            true => one.unused(),
            false => *one,
        });
        let left: Vec<Census> = left.collect();
        // Without panic: its hosts are what the policy wants to leave.
        let usable = left.iter().any(|one| one.healthy + one.degraded > 0);
        usable.then(|| load::loads(&left, self.overprovisioning, 0.0))
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

fn take_census(level: &[&Group], weighted: bool) -> Census {
    let mut census = Census::default();
    let mut weights = Weights::default();
    for host in level.iter().flat_map(|group| &group.hosts) {
        let weight = u64::from(host.endpoint.weight);
        census.total += 1;
        weights.total += weight;
        match host.health() {
            Health::Healthy => {
                census.healthy += 1;
                weights.healthy += weight;
            }
            Health::Degraded => {
                census.degraded += 1;
                weights.degraded += weight;
            }
            Health::Unhealthy | Health::Draining => {}
        }
    }
    census.weights = weighted.then_some(weights);
    census
}

/// A locality's healthy hosts.
fn size(group: &Group) -> ZoneSize {
    let healthy = group.hosts.iter().filter(|host| host.health() == Health::Healthy);
    let weight = healthy.clone().map(|host| u64::from(host.endpoint.weight)).sum();
    ZoneSize { locality: group.locality.clone(), hosts: healthy.count() as u64, weight }
}

struct Build<'a>(Setting<'a>);

impl Build<'_> {
    fn priority(&self, level: &[&Group], panic: bool) -> PriorityHosts {
        PriorityHosts {
            healthy: self.healthy(level),
            degraded: self.spread(level, |host| host.health() == Health::Degraded),
            all: panic.then(|| match self.hashes_localities(level) {
                true => self.spread(level, |_| true),
                false => self.flat(level, |_| true),
            }),
        }
    }

    fn flat(&self, level: &[&Group], wanted: impl Fn(&Host) -> bool) -> Spread {
        let hosts = level.iter().flat_map(|group| &group.hosts).filter(|host| wanted(host));
        Spread::Flat(self.pool(hosts.cloned().collect()))
    }

    fn pool(&self, hosts: Vec<Rc<Host>>) -> Pool {
        Pool::new(self.0.config, hosts, self.0.seed)
    }

    /// A pool for each locality.
    fn pools(&self, level: &[&Group], wanted: impl Fn(&Host) -> bool) -> Vec<Pool> {
        let hosts = |group: &&Group| group.hosts.iter().filter(|host| wanted(host)).cloned().collect();
        level.iter().map(|group| self.pool(hosts(group))).collect()
    }

    fn healthy(&self, level: &[&Group]) -> Spread {
        let wanted = |host: &Host| host.health() == Health::Healthy;
        let hashed = self.0.config.policy.is_hashed();
        let first = level.first().is_some_and(|group| group.priority == 0);
        let (LocalityMode::ZoneAware(settings), Some(local), true, false) =
            (self.0.config.locality, self.0.local, first, hashed)
        else {
            return self.spread(level, wanted);
        };
        let sizes: Vec<ZoneSize> = level.iter().map(|group| size(group)).collect();
        match zone::routing(&settings, local, &sizes) {
            ZoneRouting::Off => self.spread(level, wanted),
            routing => {
                let whole = level.iter().flat_map(|group| &group.hosts).filter(|host| wanted(host));
                let whole = self.pool(whole.cloned().collect());
                Spread::Zones(Box::new(Zones { settings, routing, pools: self.pools(level, wanted).into(), whole }))
            }
        }
    }

    fn spread(&self, level: &[&Group], wanted: impl Fn(&Host) -> bool) -> Spread {
        if self.hashes_localities(level) {
            return self.one_table(level, wanted);
        }
        if !self.weighs_localities(level) {
            return self.flat(level, wanted);
        }
        let pools = self.pools(level, wanted);
        let weights: Box<[f64]> = level.iter().zip(&pools).map(|(group, pool)| self.effective(group, pool)).collect();
        let edf = Edf::new(weights.iter().enumerate().map(|(item, weight)| (item as u32, *weight, None)));
        Spread::Localities { edf, weights, pools: pools.into() }
    }

    fn weighs_localities(&self, level: &[&Group]) -> bool {
        self.0.config.locality == LocalityMode::Weighted && level.iter().any(|group| group.weight.is_some())
    }

    /// Whether localities' weights are in the table that a hash is looked up in, as in Envoy: else a key would change its
    /// host with the turn of the localities.
    fn hashes_localities(&self, level: &[&Group]) -> bool {
        self.0.config.policy.is_hashed() && self.weighs_localities(level)
    }

    fn one_table(&self, level: &[&Group], wanted: impl Fn(&Host) -> bool) -> Spread {
        let total: f64 = level.iter().map(|group| f64::from(group.weight.unwrap_or(0))).sum();
        let shares = level.iter().filter(|group| group.weight.is_some_and(|weight| weight > 0)).map(|group| {
            let hosts = group.hosts.iter().filter(|host| wanted(host)).cloned().collect();
            (f64::from(group.weight.unwrap_or(0)) / total, hosts)
        });
        Spread::Flat(Pool::hashed(self.0.config, &shares.collect::<Vec<_>>()))
    }

    /// A locality's weight, lowered when too few of its hosts are usable (Envoy's `effectiveLocalityWeight`).
    fn effective(&self, group: &Group, pool: &Pool) -> f64 {
        let usable = pool.count() as f64 * f64::from(self.0.overprovisioning) / 100.0 / group.hosts.len().max(1) as f64;
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
            Spread::Zones(zones) => {
                let by_zone = zones.settings.routing.hits(rng.next_u64());
                match &zones.routing {
                    ZoneRouting::Direct(own) if by_zone => zones.pools[*own].pick(draw, rng),
                    ZoneRouting::Residual(residual) if by_zone => zones.pools[residual.pick(rng)].pick(draw, rng),
                    _ => zones.whole.pick(draw, rng),
                }
            }
        }
    }

    fn retire(&self) {
        match self {
            Spread::Flat(pool) => pool.retire(),
            Spread::Localities { pools, .. } => pools.iter().for_each(Pool::retire),
            Spread::Zones(zones) => zones.whole.retire(),
        }
    }
}
