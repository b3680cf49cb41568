//! Bounded loads: where a hash's host already has more than its share, another one is taken, always in the same order.
//!
//! After Mirrokni et al., "Consistent Hashing with Bounded Loads", with the probing order that Envoy documents at
//! `hash_balance_factor`: a permutation of the hosts, seeded by the hash.

use std::rc::Rc;

use crate::host::Host;

/// Room in the loads of a pool's hosts.
#[derive(Debug)]
pub struct Bound {
    /// Percent of the average load that a host may have.
    factor: u32,
    /// Each host's share of the weights.
    shares: Box<[f64]>,
}

impl Bound {
    pub fn new(factor: u32, hosts: &[Rc<Host>]) -> Bound {
        let total: f64 = hosts.iter().map(|host| f64::from(host.endpoint.weight)).sum();
        Bound { factor, shares: hosts.iter().map(|host| f64::from(host.endpoint.weight) / total).collect() }
    }

    /// The host for `hash`, whose own host is `first`; the least loaded when all have more than they may.
    pub fn settle(&self, hosts: &[Rc<Host>], first: usize, hash: u64) -> usize {
        let active: u64 = hosts.iter().map(|host| u64::from(host.active())).sum();
        let slots = ((active + 1) * u64::from(self.factor)).div_ceil(100);
        let load = |at: usize| {
            let own = (slots as f64 * self.shares[at]).ceil().max(1.0);
            f64::from(hosts[at].active()) / own
        };
        let mut best = (load(first), first);
        if best.0 <= 1.0 {
            return first;
        }
        let mut order: Vec<usize> = (0..hosts.len()).collect();
        let mut random = Twister::new(hash as u32);
        for at in 0..order.len() {
            let left = (order.len() - at) as u32;
            order.swap(at, at + random.below(left) as usize);
            let candidate = order[at];
            let load = load(candidate);
            if candidate != first && load <= 1.0 {
                return candidate;
            }
            if load < best.0 {
                best = (load, candidate);
            }
        }
        best.1
    }
}

/// MT19937 (Matsumoto and Nishimura, 1998): the sequence must be Envoy's, so that both choose alike.
struct Twister {
    state: Box<[u32; 624]>,
    next: usize,
}

impl Twister {
    fn new(seed: u32) -> Twister {
        let mut state = Box::new([seed; 624]);
        for at in 1..624 {
            let last = state[at - 1];
            state[at] = (last ^ last >> 30).wrapping_mul(1_812_433_253).wrapping_add(at as u32);
        }
        Twister { state, next: 624 }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == 624 {
            self.turn();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    fn turn(&mut self) {
        for at in 0..624 {
            let mixed = self.state[at] & 0x8000_0000 | self.state[(at + 1) % 624] & 0x7fff_ffff;
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[at] = self.state[(at + 397) % 624] ^ mixed >> 1 ^ odd;
        }
        self.next = 0;
    }

    /// Uniform below `bound`, which is not zero.
    fn below(&mut self, bound: u32) -> u32 {
        let width = (1u64 << 32) / u64::from(bound);
        loop {
            let drawn = u64::from(self.next_u32()) / width;
            if drawn < u64::from(bound) {
                return drawn as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // The first outputs for the reference implementation's default seed, and the 10,000th (C++ standard, [rand.predef]).
        let mut random = Twister::new(5489);
        assert_eq!([random.next_u32(), random.next_u32()], [3_499_211_612, 581_869_302]);
        assert_eq!((2..10_000).map(|_| random.next_u32()).last(), Some(4_123_659_995));
    }

    #[test]
    fn draws_are_below_their_bound() {
        let mut random = Twister::new(1);
        let mut counts = [0u32; 3];
        (0..3_000).for_each(|_| counts[random.below(3) as usize] += 1);
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }
}
