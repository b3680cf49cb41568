//! Balancing against theory: distributions, failover, panic, subsets, and what survives an update.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tulle_balance::*;
use tulle_core::{Nanos, Rng, Str};

fn endpoint(port: u16, weight: u32) -> Endpoint {
    Endpoint { weight, ..Endpoint::new(SocketAddr::from(([10, 0, 0, 1], port))) }
}

fn unhealthy(port: u16) -> Endpoint {
    Endpoint { health: Health::Unhealthy, ..endpoint(port, 1) }
}

fn labelled(port: u16, version: &str) -> Endpoint {
    let lb = Labels::new(vec![("version".into(), version.into())]);
    Endpoint { metadata: Arc::new(EndpointMetadata { lb, ..Default::default() }), ..endpoint(port, 1) }
}

fn balancer(policy: LbPolicy, set: &EndpointSet) -> Balancer {
    Balancer::new(Arc::new(LbConfig { policy, ..LbConfig::default() }), set, Nanos::ZERO, 0)
}

fn counts(balancer: &mut Balancer, picks: u32) -> HashMap<u16, u32> {
    let mut rng = Rng::seeded(42);
    let mut counts = HashMap::new();
    for _ in 0..picks {
        let host = balancer.pick(&PickContext::default(), &mut rng, Nanos::ZERO).unwrap();
        *counts.entry(host.endpoint.address.port().unwrap()).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_is_exact() {
    let mut equal = balancer(LbPolicy::RoundRobin, &EndpointSet::flat(vec![endpoint(1, 1), endpoint(2, 1)]));
    assert_eq!(counts(&mut equal, 100), HashMap::from([(1, 50), (2, 50)]));
    let weighted = EndpointSet::flat(vec![endpoint(1, 1), endpoint(2, 3)]);
    assert_eq!(counts(&mut balancer(LbPolicy::RoundRobin, &weighted), 400), HashMap::from([(1, 100), (2, 300)]));
}

#[test]
fn least_request_prefers_the_idle_host() {
    let set = EndpointSet::flat((1..=10).map(|port| endpoint(port, 1)).collect());
    let mut balancer = balancer(LbPolicy::DEFAULT_LEAST_REQUEST, &set);
    let busy: Vec<_> = balancer.hosts()[..1].iter().flat_map(|host| [host.begin(), host.begin()]).collect();
    assert_eq!(busy[0].host().active(), 2);
    // The busy host is taken only when both choices fall on it: 1 in 100.
    let counts = counts(&mut balancer, 20_000);
    assert!((120..290).contains(&counts[&1]), "{counts:?}");
    drop(busy);
    assert_eq!(balancer.hosts()[0].active(), 0);
}

#[test]
fn weighted_least_request_lowers_the_weight_of_busy_hosts() {
    let set = EndpointSet::flat(vec![endpoint(1, 2), endpoint(2, 1)]);
    let mut balancer = balancer(LbPolicy::DEFAULT_LEAST_REQUEST, &set);
    let host = balancer.hosts()[0].clone();
    let _busy: Vec<_> = (0..3).map(|_| host.begin()).collect();
    let counts = counts(&mut balancer, 3_000);
    assert!((980..1_020).contains(&counts[&1]), "2/(3+1) against 1: {counts:?}");
}

#[test]
fn a_hash_keeps_to_its_host_and_a_retry_leaves_it() {
    for policy in [LbPolicy::DEFAULT_RING_HASH, LbPolicy::DEFAULT_MAGLEV] {
        let set = EndpointSet::flat((1..=5).map(|port| endpoint(port, 1)).collect());
        let mut balancer = balancer(policy, &set);
        let mut rng = Rng::seeded(1);
        let context = PickContext { hash: Some(77), ..PickContext::default() };
        let first = balancer.pick(&context, &mut rng, Nanos::ZERO).unwrap().id;
        assert!((0..50).all(|_| balancer.pick(&context, &mut rng, Nanos::ZERO).unwrap().id == first));
        let again = PickContext { tried: &[first], attempts: 20, ..context };
        assert_ne!(balancer.pick(&again, &mut rng, Nanos::ZERO).unwrap().id, first);
    }
}

#[test]
fn unhealthy_hosts_are_avoided_until_panic() {
    let set = EndpointSet::flat(vec![endpoint(1, 1), endpoint(2, 1), unhealthy(3)]);
    let mut balancer = balancer(LbPolicy::RoundRobin, &set);
    assert!(!counts(&mut balancer, 100).contains_key(&3));
    let second = balancer.hosts()[1].id;
    balancer.set_ejected(second, true);
    assert_eq!(counts(&mut balancer, 99).len(), 3, "one of three is below the panic threshold");
    balancer.set_ejected(second, false);
    assert_eq!(counts(&mut balancer, 100).len(), 2);
}

#[test]
fn without_panic_no_host_is_an_error() {
    let config = LbConfig { panic_threshold: 0.0, ..LbConfig::default() };
    let mut balancer = Balancer::new(Arc::new(config), &EndpointSet::flat(vec![unhealthy(1)]), Nanos::ZERO, 0);
    let mut rng = Rng::seeded(1);
    let context = PickContext::default();
    assert_eq!(balancer.pick(&context, &mut rng, Nanos::ZERO).unwrap_err(), NoHost::NoneHealthy);
    balancer.update(&EndpointSet::default(), Nanos::ZERO);
    assert_eq!(balancer.pick(&context, &mut rng, Nanos::ZERO).unwrap_err(), NoHost::Empty);
}

#[test]
fn the_next_priority_takes_over() {
    let at = |priority, endpoints: Vec<Endpoint>| LocalityEndpoints {
        priority,
        endpoints: endpoints.into(),
        ..LocalityEndpoints::default()
    };
    let set = EndpointSet::new(vec![at(0, vec![endpoint(1, 1), unhealthy(2)]), at(1, vec![endpoint(3, 1)])]);
    let counts = counts(&mut balancer(LbPolicy::RoundRobin, &set), 20_000);
    let share = f64::from(counts[&1]) / 20_000.0;
    assert!((share - 0.7).abs() < 0.02, "half healthy × 1.4: {share}");
    assert!(!counts.contains_key(&2));
}

#[test]
fn localities_share_by_weight_and_health() {
    let zone = |weight, endpoints: Vec<Endpoint>| LocalityEndpoints {
        weight: Some(weight),
        endpoints: endpoints.into(),
        ..LocalityEndpoints::default()
    };
    let set = EndpointSet::new(vec![zone(1, vec![endpoint(1, 1)]), zone(3, vec![endpoint(2, 1), endpoint(3, 1)])]);
    let config = LbConfig { locality: LocalityMode::Weighted, ..LbConfig::default() };
    let mut balancer = Balancer::new(Arc::new(config), &set, Nanos::ZERO, 0);
    assert_eq!(counts(&mut balancer, 400)[&1], 100);
    let third = balancer.hosts()[2].id;
    balancer.set_checks(|host| if host.id == third { Health::Unhealthy } else { Health::Healthy }, Nanos::ZERO);
    // The second zone keeps 1/2 × 1.4 of its weight: 2.1 against 1.
    let share = f64::from(counts(&mut balancer, 3_100)[&1]) / 3_100.0;
    assert!((share - 1.0 / 3.1).abs() < 0.01, "{share}");
}

#[test]
fn hosts_that_fail_their_checks_get_nothing_until_they_pass() {
    let mut balancer =
        balancer(LbPolicy::RoundRobin, &EndpointSet::flat((1..=3).map(|port| endpoint(port, 1)).collect()));
    let on = |port: u16| {
        move |host: &tulle_balance::Host| match host.endpoint.address.port() == Some(port) {
            true => Health::Unhealthy,
            false => Health::Healthy,
        }
    };
    let failing = balancer.set_checks(on(3), Nanos::ZERO);
    assert_eq!(failing.iter().map(|host| host.endpoint.address.port()).collect::<Vec<_>>(), [Some(3)]);
    assert!(!counts(&mut balancer, 300).contains_key(&3));
    assert!(balancer.set_checks(on(3), Nanos::ZERO).is_empty(), "only what is new is told");
    assert_eq!(balancer.set_checks(|_| Health::Healthy, Nanos::ZERO).len(), 1);
    assert_eq!(counts(&mut balancer, 300)[&3], 100);
}

#[test]
fn subsets_follow_labels_and_fall_back() {
    let set = EndpointSet::flat(vec![labelled(1, "v1"), labelled(2, "v2"), labelled(3, "v2")]);
    let selector = SubsetSelector { keys: Box::new(["version".into()]), fallback: None };
    let pick_with = |fallback, version: &str| {
        let subsets = SubsetConfig { fallback, selectors: Box::new([selector.clone()]), ..SubsetConfig::default() };
        let config = LbConfig { subsets: Some(subsets), ..LbConfig::default() };
        let mut balancer = Balancer::new(Arc::new(config), &set, Nanos::ZERO, 0);
        let wanted: [(Str, Str); 1] = [("version".into(), version.into())];
        let context = PickContext { subset: &wanted, ..PickContext::default() };
        let mut rng = Rng::seeded(3);
        let mut ports: Vec<u16> = (0..20)
            .map(|_| balancer.pick(&context, &mut rng, Nanos::ZERO).map(|host| host.endpoint.address.port().unwrap()))
            .collect::<Result<_, _>>()?;
        ports.sort();
        ports.dedup();
        Ok::<_, NoHost>(ports)
    };
    assert_eq!(pick_with(SubsetFallback::NoEndpoint, "v2"), Ok(vec![2, 3]));
    assert_eq!(pick_with(SubsetFallback::NoEndpoint, "v3"), Err(NoHost::NoSubset));
    assert_eq!(pick_with(SubsetFallback::AnyEndpoint, "v3"), Ok(vec![1, 2, 3]));
}

#[test]
fn an_update_keeps_ids_counts_and_ejections_of_hosts_that_stay() {
    let mut balancer = balancer(LbPolicy::RoundRobin, &EndpointSet::flat(vec![endpoint(1, 1), endpoint(2, 1)]));
    let (first, second) = (balancer.hosts()[0].clone(), balancer.hosts()[1].clone());
    let in_flight = first.begin();
    balancer.set_ejected(first.id, true);
    let gone = balancer.update(&EndpointSet::flat(vec![endpoint(3, 1), endpoint(1, 5)]), Nanos::from_secs(1));
    assert_eq!(gone.iter().map(|host| host.id).collect::<Vec<_>>(), [second.id]);
    assert!(second.removed() && !first.removed());
    let kept = balancer.hosts()[1].clone();
    assert_eq!((kept.id, kept.active(), kept.ejected(), kept.endpoint.weight), (first.id, 1, true, 5));
    drop(in_flight);
    assert_eq!(kept.active(), 0);
    assert!(balancer.hosts()[0].id > second.id, "ids are not used again");
}

#[test]
fn changed_settings_keep_hosts_and_ejections_can_be_cleared() {
    let set = EndpointSet::flat(vec![endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]);
    let mut balancer = balancer(LbPolicy::RoundRobin, &set);
    let ids: Vec<HostId> = balancer.hosts().iter().map(|host| host.id).collect();
    balancer.set_ejected(ids[0], true);
    balancer.set_config(Arc::new(LbConfig { policy: LbPolicy::Random, ..LbConfig::default() }));
    assert_eq!(balancer.hosts().iter().map(|host| host.id).collect::<Vec<_>>(), ids);
    assert_eq!(counts(&mut balancer, 200).len(), 2);
    balancer.clear_ejections();
    assert_eq!(counts(&mut balancer, 200).len(), 3);
}

#[test]
fn another_transport_makes_another_host() {
    let mut balancer = balancer(LbPolicy::RoundRobin, &EndpointSet::flat(vec![endpoint(1, 1)]));
    let before = balancer.hosts()[0].id;
    let transport = Labels::new(vec![("tlsMode".into(), "istio".into())]);
    let metadata = Arc::new(EndpointMetadata { transport, ..Default::default() });
    let gone = balancer.update(&EndpointSet::flat(vec![Endpoint { metadata, ..endpoint(1, 1) }]), Nanos::ZERO);
    assert_eq!(gone[0].id, before);
    assert_ne!(balancer.hosts()[0].id, before);
}

#[test]
fn slow_start_raises_the_share_over_its_window() {
    let slow = SlowStart { window: Duration::from_secs(100), aggression: 1.0, min_weight_percent: 10.0 };
    let config = LbConfig { slow_start: Some(slow), ..LbConfig::default() };
    let start = Nanos::from_secs(1_000);
    let mut balancer = Balancer::new(Arc::new(config), &EndpointSet::flat(vec![endpoint(1, 1)]), Nanos::ZERO, 0);
    balancer.update(&EndpointSet::flat(vec![endpoint(1, 1), endpoint(2, 1)]), start);
    let mut rng = Rng::seeded(1);
    let mut share_at = |now: Nanos| {
        let mut pick = || balancer.pick(&PickContext::default(), &mut rng, now).unwrap().endpoint.address.port();
        (0..2_000).filter(|_| pick() == Some(2)).count() as f64 / 2_000.0
    };
    assert!((share_at(start + Duration::from_secs(50)) - 1.0 / 3.0).abs() < 0.02);
    assert!((share_at(start + Duration::from_secs(100)) - 0.5).abs() < 0.02);
}

proptest! {
    #[test]
    fn frequent_updates_do_not_skew_weighted_rotation(weights in prop::collection::vec(1u32..6, 2..6), every in 1u32..7) {
        let set = EndpointSet::flat(weights.iter().zip(1..).map(|(weight, port)| endpoint(port, *weight)).collect());
        let mut balancer = balancer(LbPolicy::RoundRobin, &set);
        let total: u32 = weights.iter().sum();
        let mut rng = Rng::seeded(9);
        let mut counts = vec![0u32; weights.len()];
        for round in 0..total * 100 {
            if round % every == 0 {
                balancer.update(&set, Nanos::ZERO);
            }
            let host = balancer.pick(&PickContext::default(), &mut rng, Nanos::ZERO).unwrap();
            counts[usize::from(host.endpoint.address.port().unwrap()) - 1] += 1;
        }
        let equal = weights.iter().all(|weight| *weight == weights[0]);
        for (count, weight) in counts.iter().zip(&weights) {
            // Equal weights restart their rotation elsewhere on every update, which is fair only on average.
            let slack = if equal { weight * 40 } else { 10 };
            prop_assert!(count.abs_diff(weight * 100) <= slack, "{counts:?} for {weights:?}");
        }
    }

    /// Through any sequence of endpoint sets, whatever the policy: who is picked is in the set, and healthy unless too few are;
    /// nobody is picked only where nobody is there; hosts that stay keep their identity.
    #[test]
    fn picks_are_hosts_of_the_latest_set(policy in any_policy(), sets in prop::collection::vec(endpoints(), 1..6), seed: u64) {
        let config = LbConfig { panic_threshold: 0.0, policy, ..LbConfig::default() };
        let mut balancer = Balancer::new(Arc::new(config), &EndpointSet::flat(vec![]), Nanos::ZERO, seed);
        let mut rng = Rng::seeded(seed);
        let mut known: HashMap<u16, HostId> = HashMap::new();
        for (step, set) in sets.iter().enumerate() {
            let now = Nanos::from_secs(step as u64);
            balancer.update(&EndpointSet::flat(set.clone()), now);
            let port = |host: &Host| host.endpoint.address.port().unwrap();
            let current: HashMap<u16, HostId> = balancer.hosts().iter().map(|host| (port(host), host.id)).collect();
            prop_assert_eq!(current.len(), set.len());
            for (port, id) in &current {
                prop_assert!(known.get(port).is_none_or(|before| before == id), "a host that stays is another");
            }
            known = current;
            let healthy: Vec<u16> =
                set.iter().filter(|each| each.health == Health::Healthy).map(|each| each.address.port().unwrap()).collect();
            for attempt in 0..20u64 {
                let context = PickContext { hash: (attempt % 2 == 0).then_some(seed ^ attempt), ..PickContext::default() };
                match balancer.pick(&context, &mut rng, now) {
                    Ok(host) => prop_assert!(healthy.contains(&port(&host)), "{} of {healthy:?}", port(&host)),
                    Err(_) => prop_assert!(healthy.is_empty(), "nobody of {healthy:?}"),
                }
            }
        }
    }
}

fn any_policy() -> impl Strategy<Value = LbPolicy> {
    let small_ring = LbPolicy::RingHash { minimum_ring_size: 64, maximum_ring_size: 256, use_hostname: false };
    prop::sample::select(vec![
        LbPolicy::RoundRobin,
        LbPolicy::DEFAULT_LEAST_REQUEST,
        LbPolicy::Random,
        small_ring,
        LbPolicy::Maglev { table_size: 251, use_hostname: false },
        LbPolicy::PeakEwma(PeakEwma::default()),
    ])
}

/// Up to seven endpoints of ten, of any weight, some of them unhealthy.
fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (1u16..11, 1u32..50, any::<bool>());
    prop::collection::vec(one, 0..8).prop_map(|found| {
        let by_port: std::collections::BTreeMap<u16, (u32, bool)> =
            found.into_iter().map(|(port, weight, well)| (port, (weight, well))).collect();
        let made = by_port.into_iter().map(|(port, (weight, well))| Endpoint {
            health: if well { Health::Healthy } else { Health::Unhealthy },
            ..endpoint(port, weight)
        });
        made.collect()
    })
}
