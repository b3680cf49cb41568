//! Ring hash and Maglev tables, built as Envoy builds them so that keys map to the same hosts.

use tulle_core::{Str, xxh64};

use crate::endpoints::NO_TEXT;
use crate::host::Host;

/// A host on its way into a table: its number, hash key and share of the weights (all shares sum to 1, or to less where a
/// locality with weight has no host).
#[derive(Clone, Debug)]
pub struct Share {
    pub item: u32,
    pub key: String,
    pub weight: f64,
}

/// The key that Envoy hashes for a host: metadata `envoy.lb`/`hash_key`, else host name or address.
pub fn hash_key(host: &Host, use_hostname: bool) -> String {
    let endpoint = &host.endpoint;
    let named: Option<&Str> = endpoint.metadata.lb.get("hash_key").filter(|key| !key.starts_with(NO_TEXT));
    match (named, use_hostname, &endpoint.hostname) {
        (Some(key), _, _) => key.to_string(),
        (None, true, Some(hostname)) => hostname.to_string(),
        _ => endpoint.address.to_string(),
    }
}

/// A Ketama ring: points sorted by hash.
#[derive(Debug, Default)]
pub struct Ring {
    points: Box<[(u64, u32)]>,
}

impl Ring {
    /// As Envoy's `RingHashLoadBalancer::Ring`: each host gets points in proportion to its weight.
    pub fn new(shares: &[Share], minimum: u64, maximum: u64) -> Self {
        let Some(least) = shares.iter().map(|share| share.weight).reduce(f64::min).filter(|least| *least > 0.0) else {
            return Ring::default();
        };
        let scale = ((least * minimum as f64).ceil() / least).min(maximum as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let (mut placed, mut target) = (0.0, 0.0);
        for share in shares {
            target += scale * share.weight;
            let mut replica = 0;
            while placed < target {
                points.push((xxh64(format!("{}_{replica}", share.key).as_bytes(), 0), share.item));
                replica += 1;
                placed += 1.0;
            }
        }
        points.sort_by_key(|(hash, _)| *hash);
        Ring { points: points.into() }
    }

    /// The host for `hash`; `attempt` walks on from there.
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<u32> {
        let at = self.points.partition_point(|(point, _)| *point < hash);
        let at = (at + attempt as usize).checked_rem(self.points.len())?;
        Some(self.points[at].1)
    }

    pub fn len(&self) -> usize {
        self.points.len()
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

/// A Maglev lookup table.
#[derive(Debug, Default)]
pub struct Maglev {
    table: Box<[u32]>,
}

struct Candidate {
    item: u32,
    offset: u64,
    skip: u64,
    weight: f64,
    target: f64,
    next: u64,
}

impl Maglev {
    /// As Envoy's `MaglevTable`: hosts in order of their keys fill the table along their permutations; `size` is prime.
    pub fn new(shares: &[Share], size: u32) -> Self {
        let size = u64::from(size.max(2));
        let most = shares.iter().map(|share| share.weight).fold(0.0, f64::max);
        if most <= 0.0 {
            return Maglev::default();
        }
        let mut sorted: Vec<&Share> = shares.iter().collect();
        sorted.sort_by(|left, right| left.key.cmp(&right.key));
        let mut candidates: Vec<Candidate> = sorted
            .into_iter()
            .map(|share| Candidate {
                item: share.item,
                offset: xxh64(share.key.as_bytes(), 0) % size,
                skip: xxh64(share.key.as_bytes(), 1) % (size - 1) + 1,
                weight: share.weight,
                target: 0.0,
                next: 0,
            })
            .collect();
        Maglev { table: fill(&mut candidates, most, size) }
    }

    /// The host for `hash`; each further `attempt` looks elsewhere.
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<u32> {
        let hash = if attempt == 0 { hash } else { hash ^ (u64::MAX - u64::from(attempt) + 1) };
        let at = hash.checked_rem(self.table.len() as u64)?;
        Some(self.table[at as usize])
    }
}

fn fill(candidates: &mut [Candidate], most: f64, size: u64) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    let mut table = vec![FREE; size as usize];
    let (mut filled, mut iteration) = (0, 0.0);
    while filled < size {
        iteration += 1.0;
        for candidate in candidates.iter_mut() {
            // The heaviest host takes a place in every round, one of a third of its weight in every third round.
            if filled == size || iteration * candidate.weight < candidate.target {
                continue;
            }
            candidate.target += most;
            let place = loop {
                let place = ((candidate.offset + candidate.skip * candidate.next) % size) as usize;
                candidate.next += 1;
                if table[place] == FREE {
                    break place;
                }
            };
            table[place] = candidate.item;
            filled += 1;
        }
    }
    table.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(weights: &[u32]) -> Vec<Share> {
        let total: u32 = weights.iter().sum();
        let share = |(item, weight): (usize, &u32)| Share {
            item: item as u32,
            key: format!("10.0.0.{item}:80"),
            weight: f64::from(*weight) / f64::from(total),
        };
        weights.iter().enumerate().map(share).collect()
    }

    #[test]
    fn the_ring_has_envoys_size_and_wraps() {
        // Envoy's RingHashLoadBalancerTest "UnevenHosts": 2 hosts, minimum 3 → 4 points.
        let ring = Ring::new(&shares(&[1, 1]), 3, 1024);
        assert_eq!(ring.len(), 4);
        assert_eq!(ring.pick(u64::MAX, 0), Some(ring.points[0].1));
        assert_eq!(ring.pick(ring.points[2].0, 0), Some(ring.points[2].1));
        assert_eq!(Ring::new(&[], 3, 10).pick(1, 0), None);
    }

    #[test]
    fn the_ring_agrees_with_envoys_published_example() {
        // Envoy, ring_hash_lb_test.cc "Basic": hosts 127.0.0.1:90..95, minimum ring size 12.
        let shares: Vec<Share> =
            (0..6).map(|item| Share { item, key: format!("127.0.0.1:{}", 90 + item), weight: 1.0 / 6.0 }).collect();
        let ring = Ring::new(&shares, 12, 1024);
        let expected = [
            (833437586790550860, 94),
            (928266305478181108, 92),
            (1033482794131418490, 90),
            (3551244743356806947, 95),
            (3851675632748031481, 93),
            (5583722120771150861, 91),
            (6311230543546372928, 91),
            (7700377290971790572, 93),
            (13144177310400110813, 95),
            (13444792449719432967, 92),
            (15516499411664133160, 94),
            (16117243373044804889, 90),
        ];
        assert_eq!(ring.len(), 12);
        let points: Vec<(u64, u32)> = ring.points.iter().map(|(hash, item)| (*hash, item + 90)).collect();
        assert_eq!(points, expected);
    }

    #[test]
    fn maglev_shares_follow_the_weights() {
        let maglev = Maglev::new(&shares(&[1, 2, 5]), 65537);
        let mut counts = [0u32; 3];
        maglev.table.iter().for_each(|item| counts[*item as usize] += 1);
        for (count, weight) in counts.iter().zip([1.0, 2.0, 5.0]) {
            assert!((f64::from(*count) / 65537.0 - weight / 8.0).abs() < 0.001, "{counts:?}");
        }
    }

    fn moved(before: impl Fn(u64) -> Option<u32>, after: impl Fn(u64) -> Option<u32>, gone: u32) -> (u32, u32) {
        let (mut unneeded, mut kept) = (0, 0);
        for key in 0..20_000u64 {
            let hash = xxh64(&key.to_le_bytes(), 0);
            match (before(hash), after(hash)) {
                (Some(item), _) if item == gone => {}
                (old, new) if old == new => kept += 1,
                _ => unneeded += 1,
            }
        }
        (unneeded, kept)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn removing_a_host_moves_only_its_keys_on_a_ring(hosts in 2usize..12, pick in 0usize..12) {
            let gone = (pick % hosts) as u32;
            let all = shares(&vec![1; hosts]);
            let mut rest: Vec<Share> = all.iter().filter(|share| share.item != gone).cloned().collect();
            rest.iter_mut().for_each(|share| share.weight = 1.0 / (hosts - 1) as f64);
            // The same points per host before and after, so that nothing else can move.
            let points = 64;
            let before = Ring::new(&all, points * hosts as u64, 1 << 20);
            let after = Ring::new(&rest, points * (hosts as u64 - 1), 1 << 20);
            let (unneeded, _) = moved(|hash| before.pick(hash, 0), |hash| after.pick(hash, 0), gone);
            prop_assert_eq!(unneeded, 0);
        }

        #[test]
        fn removing_a_host_moves_few_other_keys_with_maglev(hosts in 3usize..12, pick in 0usize..12) {
            let gone = (pick % hosts) as u32;
            let all = shares(&vec![1; hosts]);
            let rest: Vec<Share> = all.iter().filter(|share| share.item != gone).cloned().collect();
            let (before, after) = (Maglev::new(&all, 65537), Maglev::new(&rest, 65537));
            let (unneeded, kept) = moved(|hash| before.pick(hash, 0), |hash| after.pick(hash, 0), gone);
            prop_assert!(unneeded * 10 < kept, "{unneeded} of {kept} moved");
        }
    }
}
