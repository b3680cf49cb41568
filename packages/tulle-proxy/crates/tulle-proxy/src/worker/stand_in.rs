//! Clusters without hosts of their own: which cluster's hosts stand in for them, for each attempt anew.
//!
//! An aggregate has the priorities of its first cluster, then those of the next, and so on; how many requests each of
//! them gets follows from their health as among the priorities of one cluster (Envoy's aggregate clusters). A composite
//! has a cluster for each attempt.

use std::rc::Rc;

use tulle_balance::load::{self, Census, Load, Tier};
use tulle_config::Discovery;

use super::{Target, Worker};

/// Where an attempt goes.
pub struct Seat {
    pub target: Rc<Target>,
    /// The priority, and which of its hosts, where the aggregate has chosen them.
    pub only: Option<(u32, Tier)>,
    /// Counted over the whole aggregate.
    pub level: u32,
}

impl Seat {
    fn whole(target: Rc<Target>) -> Seat {
        Seat { target, only: None, level: 0 }
    }
}

/// What a seat may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Of the attempts, from 1.
    pub attempt: u32,
    /// Priorities of the aggregate that are left out while another one has a host.
    pub without: &'a [u32],
}

/// The hosts for one attempt; `None` when there are none, and for clusters whose hosts are not other clusters'.
pub fn seat(worker: &Rc<Worker>, group: &Target, ask: Ask<'_>) -> Option<Seat> {
    let config = group.upstream.config();
    match &config.discovery {
        Discovery::Aggregate(_) => {
            let levels = levels(worker, group);
            let loads = loads(group, &levels, ask.without)?;
            let (at, tier) = load::choose(&loads, worker.random())?;
            let Level { target, priority, .. } = &levels[at];
            Some(Seat { target: target.clone(), only: Some((*priority, tier)), level: at as u32 })
        }
        Discovery::Composite(names) => {
            let own = usize::try_from(ask.attempt.checked_sub(1)?).ok()?;
            names.iter().skip(own).find_map(|name| {
                let target = worker.target(name)?;
                if matches!(target.upstream.config_ref().discovery, Discovery::Aggregate(_)) {
                    return seat(worker, &target, Ask { attempt: 1, without: &[] });
                }
                (!target.by_call() && has_hosts(&target)).then(|| Seat::whole(target))
            })
        }
        _ => None,
    }
}

/// Waits until the hosts of all its clusters are known, as for a cluster of its own.
pub async fn settled(worker: &Rc<Worker>, group: &Target) {
    for target in members(worker, group) {
        for leaf in if target.by_call() { members(worker, &target) } else { vec![target] } {
            if !leaf.is_settled() {
                leaf.settled().await;
            }
        }
    }
}

/// Whether an aggregate has a usable host in other priorities than these.
pub fn has_others(worker: &Rc<Worker>, group: &Target, without: &[u32]) -> bool {
    if !matches!(group.upstream.config_ref().discovery, Discovery::Aggregate(_)) {
        return false;
    }
    let levels = levels(worker, group);
    levels.iter().zip(0..).any(|(level, at)| !without.contains(&at) && usable(&level.census) > 0)
}

/// One priority of one of the clusters.
struct Level {
    target: Rc<Target>,
    priority: u32,
    census: Census,
}

fn members(worker: &Rc<Worker>, group: &Target) -> Vec<Rc<Target>> {
    let config = group.upstream.config();
    let (Discovery::Aggregate(names) | Discovery::Composite(names)) = &config.discovery else { return Vec::new() };
    names.iter().filter_map(|name| worker.target(name)).collect()
}

/// Aggregates inside of aggregates have no hosts of their own, and so none here, as in Envoy.
fn levels(worker: &Rc<Worker>, aggregate: &Target) -> Vec<Level> {
    let leaves = members(worker, aggregate).into_iter().filter(|target| !target.by_call());
    let each = leaves.flat_map(|target| {
        let census = target.upstream.balancer.borrow().census().to_vec();
        census.into_iter().zip(0..).map(move |(census, priority)| Level { target: target.clone(), priority, census })
    });
    each.collect()
}

fn usable(census: &Census) -> u32 {
    census.healthy + census.degraded
}

fn loads(group: &Target, levels: &[Level], without: &[u32]) -> Option<Vec<Load>> {
    let first = levels.first()?;
    let overprovisioning = first.target.upstream.balancer.borrow().overprovisioning();
    let census: Vec<Census> = levels.iter().map(|level| level.census).collect();
    let left = |(census, at): (&Census, u32)| match without.contains(&at) {
        true => census.unused(),
        false => *census,
    };
    let others: Vec<Census> = census.iter().zip(0..).map(left).collect();
    if !without.is_empty() && others.iter().any(|census| usable(census) > 0) {
        return Some(load::loads(&others, overprovisioning, 0.0));
    }
    Some(load::loads(&census, overprovisioning, group.upstream.config_ref().lb.panic_threshold))
}

/// Whether a pick would find a host, in panic too.
fn has_hosts(target: &Target) -> bool {
    let lb = &target.upstream.config_ref().lb;
    let balancer = target.upstream.balancer.borrow();
    let panics = lb.panic_threshold > 0.0 && !lb.fail_traffic_on_panic;
    balancer.census().iter().any(|census| usable(census) > 0 || panics && census.total > 0)
}
