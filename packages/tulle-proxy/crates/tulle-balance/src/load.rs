//! How load spreads over priorities, and when panic sets in: Envoy's arithmetic as pure functions.

/// What a priority has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub total: u32,
    pub healthy: u32,
    pub degraded: u32,
    /// The same by the weights of the hosts, where those decide how healthy the priority is
    /// (`weighted_priority_health`). Panic goes by numbers of hosts all the same, as in Envoy.
    pub weights: Option<Weights>,
}

/// Sums of the weights of a priority's hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    pub total: u64,
    pub healthy: u64,
    pub degraded: u64,
}

impl Census {
    fn weighed(&self) -> Weights {
        let Census { total, healthy, degraded, weights } = *self;
        weights.unwrap_or(Weights { total: total.into(), healthy: healthy.into(), degraded: degraded.into() })
    }

    /// Without the hosts that requests could go to.
    pub fn unused(self) -> Census {
        let weights = self.weights.map(|weights| Weights { healthy: 0, degraded: 0, ..weights });
        Census { healthy: 0, degraded: 0, weights, ..self }
    }
}

/// What a priority gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Percent of the requests that go to its healthy (or, in panic, to all its) hosts.
    pub healthy: u32,
    /// Percent that go to its degraded hosts.
    pub degraded: u32,
    pub panic: bool,
}

/// Which hosts of a priority a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Healthy,
    Degraded,
}

/// Loads of all priorities; the percentages sum to 100 when there is any priority.
pub fn loads(census: &[Census], overprovisioning: u32, panic_threshold: f64) -> Vec<Load> {
    let share = |part: u64, weights: &Weights| {
        let percent = part * u64::from(overprovisioning) / weights.total.max(1);
        percent.min(100) as u32
    };
    let weighed: Vec<Weights> = census.iter().map(Census::weighed).collect();
    let available: u32 = weighed.iter().map(|one| share(one.healthy, one) + share(one.degraded, one)).sum();
    let available = available.min(100);
    let mut loads = vec![Load::default(); census.len()];
    let Some(first) = loads.first_mut() else { return loads };
    if available == 0 {
        first.healthy = 100;
    } else {
        distribute(&weighed, &mut loads, available, share);
    }
    if available < 100 && !(panic_threshold <= 0.0 && available == 0) {
        set_panic(census, &mut loads, panic_threshold);
    }
    loads
}

fn distribute(census: &[Weights], loads: &mut [Load], available: u32, share: impl Fn(u64, &Weights) -> u32) {
    let mut left = 100;
    let mut give = |part: u64, one: &Weights| {
        let load = left.min(share(part, one) * 100 / available);
        left -= load;
        load
    };
    for (load, one) in loads.iter_mut().zip(census) {
        load.healthy = give(one.healthy, one);
    }
    for (load, one) in loads.iter_mut().zip(census) {
        load.degraded = give(one.degraded, one);
    }
    // What rounding left over goes to the first priority that has load.
    if let Some(first) = loads.iter_mut().find(|load| load.healthy > 0) {
        first.healthy += left;
    } else if let Some(first) = loads.iter_mut().find(|load| load.degraded > 0) {
        first.degraded += left;
    }
}

fn set_panic(census: &[Census], loads: &mut [Load], threshold: f64) {
    for (load, one) in loads.iter_mut().zip(census) {
        let usable = f64::from(one.healthy + one.degraded) * 100.0 / f64::from(one.total.max(1));
        load.panic = usable < threshold;
    }
    if !loads.iter().all(|load| load.panic) {
        return;
    }
    // Every priority panics: spread over all hosts, wherever they are.
    let total: u32 = census.iter().map(|one| one.total).sum();
    let mut left = 100;
    for (load, one) in loads.iter_mut().zip(census) {
        load.healthy = (u64::from(one.total) * 100).checked_div(u64::from(total)).unwrap_or(0) as u32;
        load.degraded = 0;
        left -= load.healthy;
    }
    let first = census.iter().position(|one| one.total > 0).unwrap_or(0);
    loads[first].healthy += left;
}

/// The priority for a draw: `hash % 100` against the running sum of loads.
pub fn choose(loads: &[Load], hash: u64) -> Option<(usize, Tier)> {
    let point = (hash % 100) as u32;
    let mut sum = 0;
    let mut reached = |load: u32| {
        sum += load;
        point < sum
    };
    if let Some(priority) = loads.iter().position(|load| reached(load.healthy)) {
        return Some((priority, Tier::Healthy));
    }
    loads.iter().position(|load| reached(load.degraded)).map(|priority| (priority, Tier::Degraded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn healthy(parts: &[(u32, u32)]) -> Vec<Census> {
        parts.iter().map(|&(healthy, total)| Census { total, healthy, ..Census::default() }).collect()
    }

    fn shares(parts: &[(u32, u32)]) -> Vec<u32> {
        loads(&healthy(parts), 140, 50.0).iter().map(|load| load.healthy).collect()
    }

    #[test]
    fn failover_follows_envoys_documented_table() {
        // docs: intro/arch_overview/upstream/load_balancing/priority.
        assert_eq!(shares(&[(100, 100), (100, 100)]), [100, 0]);
        assert_eq!(shares(&[(72, 100), (72, 100)]), [100, 0]);
        assert_eq!(shares(&[(71, 100), (71, 100)]), [99, 1]);
        assert_eq!(shares(&[(50, 100), (50, 100)]), [70, 30]);
        assert_eq!(shares(&[(25, 100), (100, 100)]), [35, 65]);
        assert_eq!(shares(&[(0, 100), (100, 100)]), [0, 100]);
        assert_eq!(shares(&[(25, 100), (25, 100)]), [50, 50]);
        assert_eq!(shares(&[(0, 100), (0, 100), (100, 100)]), [0, 0, 100]);
    }

    #[test]
    fn panic_needs_a_shortage_everywhere() {
        let panics =
            |parts: &[(u32, u32)]| loads(&healthy(parts), 140, 50.0).iter().map(|load| load.panic).collect::<Vec<_>>();
        assert_eq!(panics(&[(25, 100), (100, 100)]), [false, false]);
        assert_eq!(panics(&[(25, 100), (25, 100)]), [true, true]);
        assert_eq!(panics(&[(4, 10)]), [true]);
        assert_eq!(panics(&[(5, 10)]), [false]);
        assert_eq!(loads(&healthy(&[(0, 10)]), 140, 0.0)[0], Load { healthy: 100, degraded: 0, panic: false });
    }

    #[test]
    fn degraded_hosts_take_what_healthy_ones_cannot() {
        let census = [Census { total: 10, healthy: 5, degraded: 5, weights: None }];
        assert_eq!(loads(&census, 140, 50.0)[0], Load { healthy: 70, degraded: 30, panic: false });
        assert_eq!(choose(&loads(&census, 140, 50.0), 69), Some((0, Tier::Healthy)));
        assert_eq!(choose(&loads(&census, 140, 50.0), 70), Some((0, Tier::Degraded)));
    }

    #[test]
    fn weights_may_decide_instead_of_numbers() {
        let weights = Some(Weights { total: 10, healthy: 1, degraded: 0 });
        let census = [Census { total: 2, healthy: 1, degraded: 0, weights }, Census { weights: None, ..census_of(1) }];
        assert_eq!(loads(&census, 140, 0.0).iter().map(|load| load.healthy).collect::<Vec<_>>(), [14, 86]);
    }

    fn census_of(hosts: u32) -> Census {
        Census { total: hosts, healthy: hosts, ..Census::default() }
    }

    proptest! {
        #[test]
        fn loads_always_sum_to_all(parts in prop::collection::vec((0u32..50, 0u32..50, 0u32..50), 1..6)) {
            let census: Vec<Census> = parts
                .iter()
                .map(|&(healthy, degraded, bad)| Census { total: healthy + degraded + bad, healthy, degraded, weights: None })
                .collect();
            for threshold in [0.0, 50.0, 100.0] {
                let loads = loads(&census, 140, threshold);
                prop_assert_eq!(loads.iter().map(|load| load.healthy + load.degraded).sum::<u32>(), 100);
                prop_assert!((0..100).all(|hash| choose(&loads, hash).is_some()));
            }
        }
    }
}
