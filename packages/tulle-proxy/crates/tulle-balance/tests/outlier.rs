//! Outlier detection as transcripts of results and ticks.

use std::time::Duration;

use tulle_balance::{EjectionReason, HostId, HostResult, OutlierConfig, OutlierDetector, OutlierEvent};
use tulle_core::{Nanos, Rng};

struct Bench {
    detector: OutlierDetector,
    rng: Rng,
}

impl Bench {
    fn new(config: OutlierConfig, hosts: u64) -> Self {
        let mut detector = OutlierDetector::new(config, Nanos::ZERO);
        detector.set_hosts((0..hosts).map(HostId));
        Bench { detector, rng: Rng::seeded(1) }
    }

    fn report(&mut self, host: u64, result: HostResult, times: u32, at: u64) -> Option<OutlierEvent> {
        (0..times).fold(None, |event, _| {
            event.or(self.detector.report(HostId(host), result, Nanos::from_secs(at), &mut self.rng))
        })
    }

    fn tick(&mut self, at: u64) -> Vec<OutlierEvent> {
        self.detector.tick(Nanos::from_secs(at), &mut self.rng)
    }
}

fn half() -> OutlierConfig {
    OutlierConfig { max_ejection_percent: 50, ..OutlierConfig::default() }
}

fn ejected(host: u64, until: u64, reason: EjectionReason) -> OutlierEvent {
    OutlierEvent::Ejected { host: HostId(host), until: Nanos::from_secs(until), reason }
}

#[test]
fn five_failures_in_a_row_eject_for_growing_times() {
    let mut bench = Bench::new(half(), 2);
    assert_eq!(bench.report(0, HostResult::Status(500), 4, 1), None);
    assert_eq!(bench.report(0, HostResult::Status(200), 1, 1), None);
    assert_eq!(bench.report(0, HostResult::Status(500), 4, 1), None);
    assert_eq!(bench.report(0, HostResult::Status(500), 1, 1), Some(ejected(0, 31, EjectionReason::Consecutive5xx)));
    assert_eq!(bench.tick(30), []);
    assert_eq!(bench.tick(40), [OutlierEvent::Returned { host: HostId(0) }]);
    assert_eq!(bench.report(0, HostResult::Status(500), 5, 41), Some(ejected(0, 101, EjectionReason::Consecutive5xx)));
    assert_eq!(bench.tick(101), [OutlierEvent::Returned { host: HostId(0) }]);
    // Two quiet intervals take the growth back.
    bench.tick(111);
    bench.tick(121);
    assert_eq!(bench.report(0, HostResult::Status(500), 5, 122), Some(ejected(0, 152, EjectionReason::Consecutive5xx)));
}

#[test]
fn times_grow_up_to_the_longest_and_shrink_only_with_whole_quiet_intervals() {
    let config = OutlierConfig { consecutive_5xx: 1, max_ejection_time: Duration::from_secs(70), ..half() };
    let mut bench = Bench::new(config, 2);
    let mut at = 0;
    let mut lasted = |bench: &mut Bench, quiet: u64| {
        at += 10 * quiet;
        (0..quiet).for_each(|back| assert_eq!(bench.tick(at - 10 * (quiet - 1 - back)), []));
        let Some(OutlierEvent::Ejected { until, .. }) = bench.report(0, HostResult::Status(500), 1, at + 1) else {
            panic!("it fails and stays")
        };
        let lasted = until - Nanos::from_secs(at + 1);
        while bench.tick(at + 10).is_empty() {
            at += 10;
        }
        at += 10;
        lasted.as_secs()
    };
    let times: Vec<u64> = (0..5).map(|_| lasted(&mut bench, 0)).collect();
    assert_eq!(times, [30, 60, 70, 70, 70]);
    // It is four base times by now: one more than the longest time has room for.
    assert_eq!(lasted(&mut bench, 2), 70);
    assert_eq!(lasted(&mut bench, 3), 30);
}

#[test]
fn ejections_by_rate_grow_too() {
    let config = OutlierConfig {
        consecutive_5xx: 0,
        enforcing_success_rate: 0,
        enforcing_failure_percentage: 100,
        failure_percentage_minimum_hosts: 1,
        failure_percentage_request_volume: 1,
        ..half()
    };
    let mut bench = Bench::new(config, 2);
    bench.report(0, HostResult::Status(500), 1, 1);
    assert_eq!(bench.tick(10), [ejected(0, 40, EjectionReason::FailurePercentage)]);
    assert_eq!(bench.tick(40), [OutlierEvent::Returned { host: HostId(0) }]);
    bench.report(0, HostResult::Status(500), 1, 41);
    assert_eq!(bench.tick(50), [ejected(0, 110, EjectionReason::FailurePercentage)]);
}

#[test]
fn a_tick_presses_while_a_host_is_out_or_intervals_are_short_and_something_is_to_be_done() {
    let interval = Duration::from_millis(500);
    let mut bench = Bench::new(OutlierConfig { interval, ..half() }, 2);
    assert!(!bench.detector.is_pressing());
    bench.report(0, HostResult::Status(200), 1, 1);
    assert!(bench.detector.is_pressing());
    bench.tick(10);
    assert!(!bench.detector.is_pressing());
    bench.report(0, HostResult::Status(500), 5, 11);
    bench.tick(20);
    bench.tick(41);
    assert!(bench.detector.is_pressing(), "the next time would be longer");
    bench.tick(51);
    assert!(!bench.detector.is_pressing());

    let mut bench = Bench::new(half(), 2);
    bench.report(0, HostResult::Status(200), 1, 1);
    assert!(!bench.detector.is_pressing());
    bench.report(0, HostResult::Status(500), 5, 1);
    assert!(bench.detector.is_pressing());
    bench.tick(31);
    assert!(!bench.detector.is_pressing());
}

#[test]
fn the_maximum_share_holds_even_for_the_first_host() {
    let mut bench = Bench::new(OutlierConfig::default(), 5);
    assert_eq!(bench.report(0, HostResult::Status(500), 50, 1), None, "one of five is more than 10 %");
    let mut bench = Bench::new(OutlierConfig { always_eject_one_host: true, ..OutlierConfig::default() }, 5);
    assert!(bench.report(0, HostResult::Status(500), 5, 1).is_some());
    assert_eq!(bench.report(1, HostResult::Status(500), 50, 1), None);
}

#[test]
fn local_errors_count_as_gateway_errors_unless_split() {
    let gateway = OutlierConfig { enforcing_consecutive_gateway_failure: 100, ..half() };
    let event = Bench::new(gateway, 2).report(0, HostResult::LocalOriginFailure, 5, 1);
    assert_eq!(event, Some(ejected(0, 31, EjectionReason::ConsecutiveGatewayFailure)));
    let split =
        OutlierConfig { split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, ..half() };
    let mut bench = Bench::new(split, 2);
    assert_eq!(bench.report(0, HostResult::LocalOriginFailure, 1, 1), None);
    assert_eq!(bench.report(0, HostResult::LocalOriginSuccess, 1, 1), None);
    assert_eq!(bench.report(0, HostResult::LocalOriginFailure, 1, 1), None);
    assert_eq!(bench.report(0, HostResult::Status(500), 1, 1), None, "a response is not of our own side");
    let event = bench.report(0, HostResult::LocalOriginFailure, 1, 1);
    assert_eq!(event, Some(ejected(0, 31, EjectionReason::ConsecutiveLocalOriginFailure)));
}

#[test]
fn a_host_far_below_the_others_is_ejected_by_success_rate() {
    let config = OutlierConfig { consecutive_5xx: 0, success_rate_request_volume: 10, ..half() };
    let mut bench = Bench::new(config, 10);
    for host in 0..10 {
        bench.report(host, HostResult::Status(200), if host == 3 { 50 } else { 99 }, 1);
        bench.report(host, HostResult::Status(500), if host == 3 { 50 } else { 1 }, 1);
    }
    assert_eq!(bench.tick(10), [ejected(3, 40, EjectionReason::SuccessRate)]);
    assert_eq!(bench.tick(20), [], "the tallies start over");
}

#[test]
fn failure_percentage_ejects_when_enforced() {
    let config = OutlierConfig {
        consecutive_5xx: 0,
        enforcing_success_rate: 0,
        enforcing_failure_percentage: 100,
        failure_percentage_minimum_hosts: 2,
        ..half()
    };
    let mut bench = Bench::new(config, 2);
    bench.report(0, HostResult::Status(500), 50, 1);
    bench.report(1, HostResult::Status(200), 50, 1);
    assert_eq!(bench.tick(10), [ejected(0, 40, EjectionReason::FailurePercentage)]);
}

#[test]
fn an_update_keeps_the_ejection_and_forgets_who_left() {
    let mut bench = Bench::new(half(), 2);
    assert!(bench.report(0, HostResult::Status(500), 5, 1).is_some());
    bench.detector.set_hosts([HostId(0), HostId(7)].into_iter());
    assert_eq!(bench.report(7, HostResult::Status(500), 5, 2), None, "half is already ejected");
    assert_eq!(bench.tick(31), [OutlierEvent::Returned { host: HostId(0) }]);
    assert_eq!(bench.report(1, HostResult::Status(500), 5, 32), None, "the host is gone");
    assert_eq!(bench.detector.next_tick(), Nanos::from_secs(31) + Duration::from_secs(10));
}

#[test]
fn local_failures_have_rates_of_their_own() {
    let config = OutlierConfig {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: 0,
        enforcing_success_rate: 0,
        enforcing_local_origin_success_rate: 0,
        enforcing_failure_percentage_local_origin: 100,
        failure_percentage_minimum_hosts: 2,
        ..half()
    };
    let mut bench = Bench::new(config, 2);
    bench.report(0, HostResult::LocalOriginFailure, 50, 1);
    bench.report(1, HostResult::LocalOriginSuccess, 50, 1);
    assert_eq!(bench.tick(10), [ejected(0, 40, EjectionReason::LocalOriginFailurePercentage)]);
}

#[test]
fn a_passed_health_check_returns_a_host_unless_it_may_not() {
    let mut bench = Bench::new(half(), 2);
    assert!(bench.report(0, HostResult::Status(500), 5, 1).is_some());
    assert_eq!(bench.detector.passed_check(HostId(1), Nanos::from_secs(2)), None, "it was not ejected");
    assert_eq!(
        bench.detector.passed_check(HostId(0), Nanos::from_secs(2)),
        Some(OutlierEvent::Returned { host: HostId(0) })
    );
    assert!(bench.report(1, HostResult::Status(500), 5, 2).is_some(), "there is room again");
    let mut bench = Bench::new(OutlierConfig { returned_by_health_check: false, ..half() }, 2);
    assert!(bench.report(0, HostResult::Status(500), 5, 1).is_some());
    assert_eq!(bench.detector.passed_check(HostId(0), Nanos::from_secs(2)), None);
}
