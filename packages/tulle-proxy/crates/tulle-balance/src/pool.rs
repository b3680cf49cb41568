//! A pool of eligible hosts with the state of the policy that picks among them.

use std::rc::Rc;

use tulle_core::{Nanos, Rng};

use crate::bounded::Bound;
use crate::config::{LbConfig, LbPolicy, PeakEwma, Selection, SlowStart};
use crate::consistent::{Maglev, Ring, Share, hash_key};
use crate::edf::Edf;
use crate::host::Host;

/// Hosts that are equal in health and locality, and how to pick one.
#[derive(Debug)]
pub struct Pool {
    hosts: Box<[Rc<Host>]>,
    picker: Picker,
    bound: Option<Bound>,
}

#[derive(Debug)]
enum Picker {
    /// Equal weights: a plain rotation.
    Rotation {
        next: usize,
    },
    Weighted {
        edf: Edf,
        slow_start: Option<SlowStart>,
    },
    WeightedLeastRequest {
        edf: Edf,
        bias: f64,
        slow_start: Option<SlowStart>,
    },
    LeastRequest {
        choices: u32,
    },
    /// The one with the fewest requests of all; the first of several after a rotating start.
    FullScan {
        next: usize,
    },
    PeakEwma(PeakEwma),
    Random,
    Ring(Ring),
    Maglev(Maglev),
}

/// One draw's inputs.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    pub hash: Option<u64>,
    pub attempt: u32,
    pub now: Nanos,
}

impl Pool {
    pub fn new(config: &LbConfig, hosts: Vec<Rc<Host>>, seed: u64) -> Self {
        let picker = Picker::new(config, &hosts, seed);
        Pool::of(config, hosts, picker)
    }

    /// For policies that go by a hash: `localities` with the share of each become one table.
    pub fn hashed(config: &LbConfig, localities: &[(f64, Vec<Rc<Host>>)]) -> Self {
        let weighted = localities.iter().flat_map(|(share, hosts)| {
            let total = total_weight(hosts);
            hosts.iter().map(move |host| (host, share * f64::from(host.endpoint.weight) / total))
        });
        let hosts: Vec<Rc<Host>> = weighted.clone().map(|(host, _)| host.clone()).collect();
        let picker = Picker::hashed(config, weighted);
        Pool::of(config, hosts, picker.unwrap_or(Picker::Random))
    }

    fn of(config: &LbConfig, hosts: Vec<Rc<Host>>, picker: Picker) -> Self {
        let hashed = matches!(picker, Picker::Ring(_) | Picker::Maglev(_));
        let bound = config.hash_balance_factor.filter(|_| hashed).map(|factor| Bound::new(factor, &hosts));
        Pool { hosts: hosts.into(), picker, bound }
    }

    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    /// Picks a host; `None` when there are none.
    pub fn pick(&mut self, draw: Draw, rng: &mut Rng) -> Option<&Rc<Host>> {
        let hosts = &self.hosts;
        let bound = &self.bound;
        let settle = |hash: u64, at: usize| bound.as_ref().map_or(at, |bound| bound.settle(hosts, at, hash));
        let mut hash = || draw.hash.unwrap_or_else(|| rng.next_u64());
        let at = match &mut self.picker {
            Picker::Rotation { next } => {
                let at = next.checked_rem(hosts.len())?;
                *next = at + 1;
                at
            }
            Picker::Weighted { edf, slow_start } => {
                edf.pick(|item| weight(&hosts[item as usize], *slow_start, draw.now))? as usize
            }
            Picker::WeightedLeastRequest { edf, bias, slow_start } => edf.pick(|item| {
                let host = &hosts[item as usize];
                weight(host, *slow_start, draw.now) / f64::from(host.active() + 1).powf(*bias)
            })? as usize,
            Picker::LeastRequest { choices } => least_of(hosts, *choices, rng)?,
            Picker::Random => rng.below(hosts.len() as u64) as usize,
            Picker::FullScan { next } => {
                *next += 1;
                fewest(hosts, *next)?
            }
            Picker::PeakEwma(settings) => cheaper(hosts, settings, draw.now, rng)?,
            Picker::Ring(ring) => {
                let hash = hash();
                settle(hash, ring.pick(hash, draw.attempt)? as usize)
            }
            Picker::Maglev(maglev) => {
                let hash = hash();
                settle(hash, maglev.pick(hash, draw.attempt)? as usize)
            }
        };
        hosts.get(at)
    }

    /// Leaves each host's place in the schedule with the host, for the pool that replaces this one.
    pub fn retire(&self) {
        let (Picker::Weighted { edf, .. } | Picker::WeightedLeastRequest { edf, .. }) = &self.picker else { return };
        for (item, left) in edf.left() {
            self.hosts[item as usize].set_schedule(left);
        }
    }
}

/// Draws `choices` hosts (the same may come twice, as in Envoy) and takes the one with the fewest requests.
fn least_of(hosts: &[Rc<Host>], choices: u32, rng: &mut Rng) -> Option<usize> {
    let mut best = None;
    for _ in 0..choices.max(1) {
        let at = rng.below(hosts.len() as u64) as usize;
        let active = hosts.get(at)?.active();
        if best.is_none_or(|(fewest, _)| active < fewest) {
            best = Some((active, at));
        }
    }
    best.map(|(_, at)| at)
}

/// The host with the fewest requests of all, looking from `start` on.
fn fewest(hosts: &[Rc<Host>], start: usize) -> Option<usize> {
    (0..hosts.len()).map(|step| (start + step) % hosts.len()).min_by_key(|at| hosts[*at].active())
}

/// Of two different hosts drawn at random, the one that is expected to answer first.
fn cheaper(hosts: &[Rc<Host>], settings: &PeakEwma, now: Nanos, rng: &mut Rng) -> Option<usize> {
    let count = hosts.len() as u64;
    let one = rng.below(count) as usize;
    let first = hosts.get(one)?;
    if count == 1 {
        return Some(one);
    }
    let other = (one + 1 + rng.below(count - 1) as usize) % hosts.len();
    let weighted = |host: &Host| host.cost(settings, now) / f64::from(host.endpoint.weight.max(1));
    Some(if weighted(&hosts[other]) < weighted(first) { other } else { one })
}

/// A host's weight, lowered while it starts.
fn weight(host: &Host, slow_start: Option<SlowStart>, now: Nanos) -> f64 {
    let full = f64::from(host.endpoint.weight.max(1));
    let Some(slow) = slow_start else { return full };
    let age = now.since(host.since());
    if age >= slow.window {
        return full;
    }
    let progress = (age.as_secs_f64() / slow.window.as_secs_f64()).max(f64::MIN_POSITIVE);
    full * progress.powf(1.0 / slow.aggression).max(slow.min_weight_percent / 100.0)
}

impl Picker {
    fn new(config: &LbConfig, hosts: &[Rc<Host>], seed: u64) -> Self {
        let first = hosts.first().map_or(1, |host| host.endpoint.weight);
        let equal = config.slow_start.is_none() && hosts.iter().all(|host| host.endpoint.weight == first);
        let slow_start = config.slow_start;
        match &config.policy {
            LbPolicy::RoundRobin if equal => {
                Picker::Rotation { next: seed.checked_rem(hosts.len() as u64).unwrap_or(0) as usize }
            }
            LbPolicy::RoundRobin => Picker::Weighted { edf: schedule(hosts, seed), slow_start },
            LbPolicy::LeastRequest { selection: Selection::FullScan, .. } if equal => Picker::FullScan { next: 0 },
            LbPolicy::LeastRequest { choices, .. } if equal => Picker::LeastRequest { choices: *choices },
            LbPolicy::LeastRequest { active_request_bias, .. } => {
                Picker::WeightedLeastRequest { edf: schedule(hosts, seed), bias: *active_request_bias, slow_start }
            }
            LbPolicy::PeakEwma(settings) => Picker::PeakEwma(*settings),
            LbPolicy::Random | LbPolicy::OriginalDestination => Picker::Random,
            LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. } => {
                let total = total_weight(hosts);
                let weighted = hosts.iter().map(|host| (host, f64::from(host.endpoint.weight) / total));
                Picker::hashed(config, weighted).unwrap_or(Picker::Random)
            }
        }
    }

    /// A table of hosts with their shares; `None` for policies that have no table.
    fn hashed<'h>(config: &LbConfig, weighted: impl Iterator<Item = (&'h Rc<Host>, f64)>) -> Option<Self> {
        let shares = |use_hostname: bool| -> Vec<Share> {
            let share = |(item, (host, weight)): (usize, (&'h Rc<Host>, f64))| Share {
                item: item as u32,
                key: hash_key(host, use_hostname),
                weight,
            };
            weighted.enumerate().map(share).collect()
        };
        match &config.policy {
            LbPolicy::RingHash { minimum_ring_size, maximum_ring_size, use_hostname } => {
                Some(Picker::Ring(Ring::new(&shares(*use_hostname), *minimum_ring_size, *maximum_ring_size)))
            }
            LbPolicy::Maglev { table_size, use_hostname } => {
                Some(Picker::Maglev(Maglev::new(&shares(*use_hostname), *table_size)))
            }
            _ => None,
        }
    }
}

fn total_weight(hosts: &[Rc<Host>]) -> f64 {
    hosts.iter().map(|host| f64::from(host.endpoint.weight)).sum()
}

fn schedule(hosts: &[Rc<Host>], seed: u64) -> Edf {
    let weight_of = |host: &Rc<Host>| f64::from(host.endpoint.weight.max(1));
    let fresh = hosts.iter().all(|host| host.schedule().is_none());
    let items = hosts.iter().enumerate().map(|(item, host)| (item as u32, weight_of(host), host.schedule()));
    let mut edf = Edf::new(items);
    if fresh {
        // As Envoy: start somewhere else than the other proxies with the same endpoints.
        for _ in 0..seed.checked_rem(hosts.len() as u64).unwrap_or(0) {
            edf.pick(|item| weight_of(&hosts[item as usize]));
        }
    }
    edf
}
