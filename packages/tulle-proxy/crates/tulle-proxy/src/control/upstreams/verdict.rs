//! What a host's checks say about it in sum, by Envoy's thresholds (`HealthCheckerImplBase`): pure.

use std::time::Duration;

use tulle_config::cluster::HealthCheck;
use tulle_core::Rng;

use crate::worker::hosts::Check;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Passed,
    /// The same, and the host said that it had rather not get requests.
    Degraded,
    /// The host answered that it is not well: believed at once.
    Refused,
    /// An answer that counts towards the threshold (`retriable_statuses`).
    Retriable,
    /// No connection, or one that broke.
    Unreachable,
    Timeout,
}

#[derive(Debug, Default)]
pub struct Verdict {
    check: Check,
    passed: u32,
    failed: u32,
    /// The last check passed.
    well: bool,
    /// It was one of several that a change of the standing takes.
    pending: bool,
    degraded: bool,
}

impl Verdict {
    /// Goes on from what was known under an earlier configuration.
    pub fn from(check: Check) -> Verdict {
        let degraded = check == Check::Degraded;
        let check = if degraded { Check::Passing } else { check };
        Verdict { check, well: check == Check::Passing, degraded, ..Verdict::default() }
    }

    pub fn check(&self) -> Check {
        if self.check == Check::Passing && self.degraded { Check::Degraded } else { self.check }
    }

    /// Takes in the result of a check.
    pub fn note(&mut self, finding: Finding, settings: &HealthCheck) {
        self.degraded = finding == Finding::Degraded;
        self.well = self.degraded || finding == Finding::Passed;
        self.pending = false;
        if self.well {
            self.failed = 0;
            if self.check == Check::Passing {
                return;
            }
            self.passed += 1;
            // The very first check decides alone.
            if self.check == Check::Pending || self.passed >= settings.healthy_threshold {
                self.check = Check::Passing;
            } else {
                self.pending = true;
            }
            return;
        }
        self.passed = 0;
        let failing = if finding == Finding::Timeout { Check::TimedOut } else { Check::Failing };
        if self.check == Check::Passing {
            self.failed += 1;
            if finding != Finding::Refused && self.failed < settings.unhealthy_threshold {
                self.pending = true;
                return;
            }
        }
        self.check = failing;
    }

    /// The host took itself out (`x-envoy-immediate-health-check-fail`).
    pub fn withdraw(&mut self) {
        *self = Verdict::from(Check::Failing);
    }

    /// Until the next check.
    pub fn interval(&self, settings: &HealthCheck, traffic: Traffic, rng: &mut Rng) -> Duration {
        let interval = match (traffic, self.well, self.pending) {
            (Traffic::None, true, false) => settings.no_traffic_healthy_interval,
            (Traffic::None, ..) => settings.no_traffic_interval,
            (Traffic::Some, true, false) => settings.interval,
            (Traffic::Some, true, true) => settings.healthy_edge_interval,
            (Traffic::Some, false, false) => settings.unhealthy_interval,
            (Traffic::Some, false, true) => settings.unhealthy_edge_interval,
        };
        let share = f64::from(settings.interval_jitter_percent) / 100.0;
        let jitter = interval.mul_f64(share * rng.unit()) + settings.interval_jitter.mul_f64(rng.unit());
        // Whatever is configured, checks leave room for others.
        (interval + jitter).max(Duration::from_millis(1))
    }
}

/// What several kinds of checks say together: a host is well when it passes all of them. It is when there are none.
pub fn together(checks: impl Iterator<Item = Check>) -> Check {
    let weight = |check: &Check| match check {
        Check::Passing => 0,
        Check::Degraded => 1,
        Check::Pending => 2,
        Check::TimedOut => 3,
        Check::Failing => 4,
    };
    checks.max_by_key(weight).unwrap_or(Check::Passing)
}

/// Whether the cluster has ever been connected to for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    None,
    Some,
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use Finding::{Passed, Refused, Retriable, Timeout, Unreachable};
    use tulle_config::cluster::HealthChecker;

    /// As in the static Envoy configuration that people copy: every 5 s, 1 s to answer, 3 down, 2 up.
    pub fn settings() -> HealthCheck {
        HealthCheck {
            timeout: Duration::from_secs(1),
            interval: Duration::from_secs(5),
            interval_jitter: Duration::ZERO,
            initial_jitter: Duration::ZERO,
            interval_jitter_percent: 0,
            no_traffic_interval: Duration::from_secs(60),
            no_traffic_healthy_interval: Duration::from_secs(90),
            unhealthy_interval: Duration::from_secs(2),
            unhealthy_edge_interval: Duration::from_secs(3),
            healthy_edge_interval: Duration::from_secs(4),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            reuse_connection: true,
            transport_labels: None,
            alpn: Vec::new(),
            checker: HealthChecker::Tcp { send: None, receive: Vec::new() },
        }
    }

    fn after(findings: &[Finding]) -> Check {
        let mut verdict = Verdict::default();
        findings.iter().for_each(|finding| verdict.note(*finding, &settings()));
        verdict.check()
    }

    #[test]
    fn the_first_check_decides_and_later_ones_count() {
        assert_eq!(after(&[]), Check::Pending);
        assert_eq!(after(&[Passed]), Check::Passing);
        assert_eq!(after(&[Unreachable]), Check::Failing);
        assert_eq!(after(&[Unreachable, Passed]), Check::Failing);
        assert_eq!(after(&[Unreachable, Passed, Passed]), Check::Passing);
        assert_eq!(after(&[Unreachable, Passed, Refused, Passed]), Check::Failing);
        assert_eq!(after(&[Passed, Unreachable, Timeout]), Check::Passing);
        assert_eq!(after(&[Passed, Unreachable, Timeout, Passed, Retriable, Timeout]), Check::Passing);
        assert_eq!(after(&[Passed, Retriable, Retriable, Timeout]), Check::TimedOut);
    }

    #[test]
    fn an_answer_that_says_no_is_believed_at_once() {
        assert_eq!(after(&[Passed, Refused]), Check::Failing);
        let mut verdict = Verdict::from(Check::Passing);
        verdict.withdraw();
        assert_eq!(verdict.check(), Check::Failing);
        verdict.note(Passed, &settings());
        assert_eq!(verdict.check(), Check::Failing);
    }

    #[test]
    fn idle_clusters_are_checked_rarely_and_sick_hosts_at_their_own_rate() {
        let mut rng = Rng::seeded(1);
        let mut wait = |check, traffic| Verdict::from(check).interval(&settings(), traffic, &mut rng).as_secs();
        assert_eq!(wait(Check::Passing, Traffic::None), 90);
        assert_eq!(wait(Check::TimedOut, Traffic::None), 60);
        assert_eq!(wait(Check::Passing, Traffic::Some), 5);
        assert_eq!(wait(Check::TimedOut, Traffic::Some), 2);
    }

    #[test]
    fn what_is_short_of_a_threshold_is_looked_at_again_at_a_rate_of_its_own() {
        let mut verdict = Verdict::default();
        let mut rng = Rng::seeded(1);
        let mut after = |finding| {
            verdict.note(finding, &settings());
            verdict.interval(&settings(), Traffic::Some, &mut rng).as_secs()
        };
        let findings = [Passed, Unreachable, Unreachable, Timeout, Timeout, Passed, Passed, Passed];
        assert_eq!(findings.map(&mut after), [5, 3, 3, 2, 2, 4, 5, 5]);
    }

    #[test]
    fn jitter_adds_to_an_interval_that_is_never_nothing() {
        let mut rng = Rng::seeded(1);
        let none = HealthCheck { unhealthy_interval: Duration::ZERO, ..settings() };
        assert_eq!(Verdict::default().interval(&none, Traffic::Some, &mut rng), Duration::from_millis(1));
        let half = HealthCheck { interval_jitter_percent: 50, ..settings() };
        let waits: Vec<f64> = (0..200)
            .map(|_| Verdict::from(Check::Passing).interval(&half, Traffic::Some, &mut rng).as_secs_f64())
            .collect();
        assert!(waits.iter().all(|wait| (5.0..7.5).contains(wait)) && waits.iter().any(|wait| *wait > 7.0));
    }

    #[test]
    fn all_kinds_of_checks_must_pass() {
        let sum = |checks: &[Check]| together(checks.iter().copied());
        assert_eq!(sum(&[]), Check::Passing);
        assert_eq!(sum(&[Check::Passing, Check::Passing]), Check::Passing);
        assert_eq!(sum(&[Check::Passing, Check::Pending]), Check::Pending);
        assert_eq!(sum(&[Check::Failing, Check::Passing, Check::TimedOut]), Check::Failing);
    }
}
