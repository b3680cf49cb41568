//! Further policies against theory: chi-square with fixed seeds, bounded loads, peak EWMA, zones, subsets, and what is avoided.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tulle_balance::zone::ZoneSize;
use tulle_balance::*;
use tulle_core::{Address, Nanos, Rng, Str, xxh64};

fn address(port: u16) -> Address {
    Address::Ip(SocketAddr::from(([10, 0, 0, 1], port)))
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(address(port))
}

fn endpoints(count: u16) -> EndpointSet {
    EndpointSet::flat((1..=count).map(endpoint).collect())
}

fn with(config: LbConfig, set: &EndpointSet) -> Balancer {
    Balancer::new(Arc::new(config), set, Nanos::ZERO, 0)
}

fn policy(policy: LbPolicy) -> LbConfig {
    LbConfig { policy, ..LbConfig::default() }
}

fn port(host: &Host) -> u16 {
    host.endpoint.address.port().unwrap()
}

/// How often each port is picked.
fn counts(balancer: &mut Balancer, context: &PickContext<'_>, picks: u32) -> HashMap<u16, u32> {
    let (mut rng, mut counts) = (Rng::seeded(42), HashMap::new());
    for _ in 0..picks {
        *counts.entry(port(&balancer.pick(context, &mut rng, Nanos::ZERO).unwrap())).or_default() += 1;
    }
    counts
}

/// Pearson's statistic for equal shares.
fn chi_square(counts: impl Iterator<Item = u32>, cells: u32, total: u32) -> f64 {
    let expected = f64::from(total) / f64::from(cells);
    counts.map(|count| (f64::from(count) - expected).powi(2) / expected).sum()
}

#[test]
fn random_policies_are_uniform_by_chi_square() {
    for policy_of in [LbPolicy::Random, LbPolicy::DEFAULT_LEAST_REQUEST, LbPolicy::PeakEwma(PeakEwma::default())] {
        let mut balancer = with(policy(policy_of.clone()), &endpoints(10));
        let counts = counts(&mut balancer, &PickContext::default(), 20_000);
        let statistic = chi_square(counts.values().copied(), 10, 20_000);
        // 9 degrees of freedom: 27.9 is exceeded once in a thousand.
        assert!(counts.len() == 10 && statistic < 27.9, "{policy_of:?}: {statistic} {counts:?}");
    }
}

#[test]
fn consistent_policies_spread_keys_and_move_few_when_a_host_comes() {
    // A ring is uneven, and each host has fewer points (1024 in all) when there are more hosts.
    for (policy_of, most) in [(LbPolicy::DEFAULT_RING_HASH, 3_600), (LbPolicy::DEFAULT_MAGLEV, 2_800)] {
        let mut balancer = with(policy(policy_of.clone()), &endpoints(10));
        let mut rng = Rng::seeded(1);
        let mut place = |balancer: &mut Balancer| -> Vec<u16> {
            (0..20_000u64)
                .map(|key| {
                    let hash = Some(xxh64(&key.to_le_bytes(), 0));
                    let context = PickContext { hash, ..PickContext::default() };
                    port(&balancer.pick(&context, &mut rng, Nanos::ZERO).unwrap())
                })
                .collect()
        };
        let before = place(&mut balancer);
        balancer.update(&endpoints(11), Nanos::ZERO);
        let after = place(&mut balancer);
        let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
        let elsewhere = before.iter().zip(&after).filter(|(old, new)| old != new && **new != 11).count();
        // One in eleven, 1,818, has to move; few more do, where a plain modulus would move 18,182.
        assert!((900..most).contains(&moved), "{policy_of:?}: {moved}");
        assert!(elsewhere < moved / 2, "{policy_of:?}: {elsewhere} of {moved}");
    }
}

#[test]
fn a_bounded_load_spills_over_always_to_the_same_host() {
    let config = LbConfig { hash_balance_factor: Some(150), ..policy(LbPolicy::DEFAULT_RING_HASH) };
    let mut balancer = with(config, &endpoints(4));
    let mut rng = Rng::seeded(1);
    let context = PickContext { hash: Some(4711), ..PickContext::default() };
    let mut take = |balancer: &mut Balancer| balancer.pick(&context, &mut rng, Nanos::ZERO).unwrap();
    let first = take(&mut balancer);
    let mut running: Vec<ActiveRequest> = Vec::new();
    for _ in 0..40 {
        let host = take(&mut balancer);
        // (40 + 1) × 1.5 / 4 hosts, rounded up: what a host may have at the very end, and one more on top.
        assert!(host.active() <= 16, "{}", host.active());
        running.push(host.begin());
    }
    let most = balancer.hosts().iter().map(|host| host.active()).max().unwrap();
    assert_eq!(most, first.active(), "its own host is filled first");
    assert_eq!(take(&mut balancer).id, take(&mut balancer).id);
    running.clear();
    assert_eq!(take(&mut balancer).id, first.id);
}

#[test]
fn full_scan_finds_the_idle_host() {
    let scan = LbPolicy::LeastRequest { choices: 2, active_request_bias: 1.0, selection: Selection::FullScan };
    let mut balancer = with(policy(scan), &endpoints(5));
    let _busy: Vec<_> = balancer.hosts().iter().filter(|host| port(host) != 3).map(|host| host.begin()).collect();
    assert_eq!(counts(&mut balancer, &PickContext::default(), 50), HashMap::from([(3, 50)]));
}

#[test]
fn peak_ewma_leaves_a_host_that_became_slow_and_comes_back() {
    let settings = PeakEwma { decay: Duration::from_secs(10), ..PeakEwma::default() };
    let mut balancer = with(policy(LbPolicy::PeakEwma(settings)), &endpoints(3));
    let mut rng = Rng::seeded(5);
    let mut share_of_slow = |balancer: &mut Balancer, from: u64, latency: u64| {
        let mut slow = 0;
        for step in 0..3_000 {
            let now = Nanos::from_millis(from + step);
            let host: Rc<Host> = balancer.pick(&PickContext::default(), &mut rng, now).unwrap();
            slow += u32::from(port(&host) == 2);
            let took = if port(&host) == 2 { latency } else { 10 };
            balancer.observe(&host, Duration::from_millis(took), now);
        }
        f64::from(slow) / 3_000.0
    };
    assert!((share_of_slow(&mut balancer, 0, 10) - 1.0 / 3.0).abs() < 0.05);
    // One slow answer is enough: the peak counts at once.
    assert!(share_of_slow(&mut balancer, 10_000, 200) < 0.02);
    assert!(share_of_slow(&mut balancer, 200_000, 10) > 0.25);
}

#[test]
fn a_request_in_flight_makes_a_host_dearer() {
    let mut balancer = with(policy(LbPolicy::PeakEwma(PeakEwma::default())), &endpoints(2));
    for host in balancer.hosts().to_vec() {
        balancer.observe(&host, Duration::from_millis(10), Nanos::ZERO);
    }
    let _busy = balancer.hosts()[0].begin();
    assert_eq!(counts(&mut balancer, &PickContext::default(), 100), HashMap::from([(2, 100)]));
}

#[test]
fn zones_keep_requests_at_home() {
    let zone = |name: &str| Locality { zone: name.into(), ..Locality::default() };
    let group = |name: &str, ports: std::ops::RangeInclusive<u16>| LocalityEndpoints {
        locality: zone(name),
        endpoints: ports.map(endpoint).collect(),
        ..LocalityEndpoints::default()
    };
    let set = EndpointSet::new(vec![group("a", 1..=3), group("b", 4..=6)]);
    let aware = LbConfig { locality: LocalityMode::ZoneAware(ZoneAware::default()), ..LbConfig::default() };
    let mut balancer = with(aware, &set);
    assert_eq!(counts(&mut balancer, &PickContext::default(), 600).len(), 6, "nobody says where we are");
    let size = |name: &str| ZoneSize { locality: zone(name), hosts: 1, weight: 1 };
    balancer.set_local(Some(Arc::new(LocalCluster { own: zone("b"), zones: [size("a"), size("b")].into() })));
    assert!(counts(&mut balancer, &PickContext::default(), 600).keys().all(|port| *port >= 4));
    balancer.set_ejected(balancer.hosts()[5].id, true);
    assert_eq!(
        counts(&mut balancer, &PickContext::default(), 600).len(),
        5,
        "five healthy hosts are below the minimum"
    );
}

#[test]
fn priorities_that_were_tried_are_left() {
    let at = |priority, port| LocalityEndpoints {
        priority,
        endpoints: [endpoint(port)].into(),
        ..LocalityEndpoints::default()
    };
    let mut balancer = with(LbConfig::default(), &EndpointSet::new(vec![at(0, 1), at(1, 2)]));
    assert_eq!(counts(&mut balancer, &PickContext::default(), 50), HashMap::from([(1, 50)]));
    let without = PickContext { without: &[0], ..PickContext::default() };
    assert_eq!(counts(&mut balancer, &without, 50), HashMap::from([(2, 50)]));
    assert!(balancer.has_others(&[0]) && !balancer.has_others(&[0, 1]));
    assert_eq!(balancer.priority_of(balancer.hosts()[1].id), Some(1));
    // None is left: as if nothing had been tried.
    let none = PickContext { without: &[0, 1], ..PickContext::default() };
    assert_eq!(counts(&mut balancer, &none, 50), HashMap::from([(1, 50)]));
}

fn labelled(port: u16, labels: &[(&str, &str)], lists: &[(&str, &[&str])]) -> Endpoint {
    let lb = Labels::new(labels.iter().map(|(key, value)| (Str::from(*key), Str::from(*value))).collect());
    let texts = |values: &[&str]| values.iter().map(|value| Str::from(*value)).collect();
    let lb_lists = lists.iter().map(|(key, values)| (Str::from(*key), texts(values))).collect();
    Endpoint { metadata: Arc::new(EndpointMetadata { lb, lb_lists, ..Default::default() }), ..endpoint(port) }
}

#[test]
fn unwanted_labels_and_named_hosts() {
    let set = EndpointSet::flat(vec![labelled(1, &[("canary", "true")], &[]), endpoint(2)]);
    let mut balancer = with(policy(LbPolicy::Random), &set);
    let canary: [Box<[(Str, Str)]>; 1] = [[(Str::from("canary"), Str::from("true"))].into()];
    let context = PickContext { unwanted: &canary, attempts: 50, ..PickContext::default() };
    assert_eq!(counts(&mut balancer, &context, 100), HashMap::from([(2, 100)]));
    let (one, gone) = (address(1), address(9));
    let named = |address| PickContext { named: Some(address), ..PickContext::default() };
    assert_eq!(counts(&mut balancer, &named(&one), 50), HashMap::from([(1, 50)]));
    assert_eq!(counts(&mut balancer, &named(&gone), 200).len(), 2);
    let strict = |address| PickContext { strict: true, ..named(address) };
    assert_eq!(counts(&mut balancer, &strict(&one), 50), HashMap::from([(1, 50)]));
    let why =
        |balancer: &mut Balancer, address| balancer.pick(&strict(address), &mut Rng::seeded(1), Nanos::ZERO).err();
    assert_eq!(why(&mut balancer, &gone), Some(NoHost::Gone));
    let mut sick = endpoint(1);
    sick.health = Health::Unhealthy;
    let mut balancer = with(policy(LbPolicy::Random), &EndpointSet::flat(vec![sick.clone(), endpoint(2)]));
    assert_eq!(counts(&mut balancer, &named(&one), 50), HashMap::from([(2, 50)]));
    assert_eq!(why(&mut balancer, &one), Some(NoHost::NoneHealthy));
    let lenient = LbConfig { override_health: Box::new([Health::Unhealthy]), ..policy(LbPolicy::Random) };
    let mut balancer = with(lenient, &EndpointSet::flat(vec![sick, endpoint(2)]));
    assert_eq!(counts(&mut balancer, &named(&one), 50), HashMap::from([(1, 50)]));
}

#[test]
fn subsets_by_lists_fewer_keys_and_defaults() {
    let set = EndpointSet::flat(vec![
        labelled(1, &[], &[("version", &["a", "b"])]),
        labelled(2, &[], &[("version", &["b", "c"])]),
        labelled(3, &[("version", "d"), ("stage", "x")], &[]),
    ]);
    let keys = |keys: &[&str]| keys.iter().map(|key| Str::from(*key)).collect::<Box<[Str]>>();
    let by_version = SubsetSelector { keys: keys(&["version"]), fallback: None };
    let by_both =
        SubsetSelector { keys: keys(&["stage", "version"]), fallback: Some(SubsetFallback::Keys(keys(&["version"]))) };
    let base = SubsetConfig { selectors: [by_version, by_both].into(), ..SubsetConfig::default() };
    let ports = |subsets: &SubsetConfig, wanted: &[(&str, &str)]| {
        let wanted: Vec<(Str, Str)> = wanted.iter().map(|(key, value)| (Str::from(*key), Str::from(*value))).collect();
        let mut balancer = with(LbConfig { subsets: Some(subsets.clone()), ..LbConfig::default() }, &set);
        let (context, mut rng) = (PickContext { subset: &wanted, ..PickContext::default() }, Rng::seeded(1));
        let picks = (0..30).map(|_| balancer.pick(&context, &mut rng, Nanos::ZERO).map(|host| port(&host)));
        let mut found: Vec<u16> = picks.collect::<Result<_, NoHost>>()?;
        found.sort();
        found.dedup();
        Ok::<_, NoHost>(found)
    };
    assert_eq!(ports(&base, &[("version", "b")]), Err(NoHost::NoSubset), "a list is one value");
    let any = SubsetConfig { lists: ListLabels::Any, ..base };
    assert_eq!(ports(&any, &[("version", "b")]), Ok(vec![1, 2]));
    assert_eq!(ports(&any, &[("stage", "x"), ("version", "d")]), Ok(vec![3]));
    assert_eq!(ports(&any, &[("stage", "y"), ("version", "c")]), Ok(vec![2]));
    assert_eq!(ports(&any, &[("stage", "y"), ("version", "z")]), Err(NoHost::NoSubset));
    let default_subset = Labels::new(vec![("version".into(), "d".into())]);
    let fallen = SubsetConfig { fallback: SubsetFallback::DefaultSubset, default_subset, ..any };
    assert_eq!(ports(&fallen, &[("version", "z")]), Ok(vec![3]));
    let empty = Labels::new(vec![("version".into(), "none".into())]);
    let nobody = SubsetConfig { default_subset: empty, ..fallen };
    assert_eq!(ports(&nobody, &[("version", "z")]), Err(NoHost::NoneHealthy));
    assert_eq!(ports(&SubsetConfig { panic_mode_any: true, ..nobody }, &[("version", "z")]), Ok(vec![1, 2, 3]));
}
