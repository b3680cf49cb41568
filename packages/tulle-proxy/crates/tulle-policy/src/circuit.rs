//! A circuit that opens when a destination fails: closed, open, half-open with a few probes (our own; Envoy's
//! `circuit_breakers` are limits). Driven by outcomes and `now` alone.

use std::time::Duration;

use tulle_core::Nanos;

/// When a circuit opens, and how it closes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitConfig {
    /// Failures in a row that open it; 0 switches this off.
    pub consecutive_failures: u32,
    /// Percent of a window's requests that may not fail; 0 switches this off.
    pub failure_percent: u32,
    /// Fewer requests than this in a window say nothing.
    pub minimum_requests: u32,
    pub window: Duration,
    /// How long it stays open before probes are let through.
    pub open_for: Duration,
    /// Probes at once, and how many have to succeed.
    pub probes: u32,
}

impl Default for CircuitConfig {
    fn default() -> Self {
        CircuitConfig {
            consecutive_failures: 5,
            failure_percent: 0,
            minimum_requests: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
            probes: 3,
        }
    }
}

/// What an admitted request is to the circuit; to be given back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ticket {
    Regular { epoch: u64 },
    Probe { epoch: u64 },
}

/// How an admitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Well,
    Badly,
    /// The caller left, or something else that says nothing about the destination.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { since: Nanos, total: u32, failed: u32, streak: u32 },
    Open { until: Nanos },
    HalfOpen { running: u32, passed: u32 },
}

/// One circuit.
#[derive(Debug)]
pub struct Circuit {
    config: CircuitConfig,
    state: State,
    /// Moves on with every change of state: outcomes of requests from before say nothing any more.
    epoch: u64,
}

impl Circuit {
    pub fn new(config: CircuitConfig, now: Nanos) -> Self {
        Circuit { config, state: State::Closed { since: now, total: 0, failed: 0, streak: 0 }, epoch: 0 }
    }

    pub fn config(&self) -> &CircuitConfig {
        &self.config
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }

    fn close(&mut self, now: Nanos) {
        self.turn(State::Closed { since: now, total: 0, failed: 0, streak: 0 });
    }

    /// Whether a request may be sent; `None` while the circuit is open or enough probes are running.
    pub fn admit(&mut self, now: Nanos) -> Option<Ticket> {
        if let State::Open { until } = self.state
            && until <= now
        {
            self.turn(State::HalfOpen { running: 0, passed: 0 });
        }
        match &mut self.state {
            State::Closed { .. } => Some(Ticket::Regular { epoch: self.epoch }),
            State::Open { .. } => None,
            State::HalfOpen { running, passed } => {
                let free = *running + *passed < self.config.probes.max(1);
                *running += u32::from(free);
                free.then_some(Ticket::Probe { epoch: self.epoch })
            }
        }
    }

    /// Takes in how an admitted request ended.
    pub fn report(&mut self, ticket: Ticket, ended: Ended, now: Nanos) {
        let (Ticket::Regular { epoch } | Ticket::Probe { epoch }) = ticket;
        if epoch != self.epoch {
            return;
        }
        match (&mut self.state, ended) {
            (State::HalfOpen { running, .. }, Ended::Unknown) => *running -= 1,
            (State::HalfOpen { .. }, Ended::Badly) => self.open(now),
            (State::HalfOpen { running, passed }, Ended::Well) => {
                *running -= 1;
                *passed += 1;
                if *passed >= self.config.probes.max(1) {
                    self.close(now);
                }
            }
            (State::Closed { .. }, Ended::Well | Ended::Badly) => self.count(ended == Ended::Badly, now),
            (State::Closed { .. } | State::Open { .. }, _) => {}
        }
    }

    fn count(&mut self, bad: bool, now: Nanos) {
        let config = self.config;
        let State::Closed { since, total, failed, streak } = &mut self.state else { return };
        if now.since(*since) >= config.window {
            (*since, *total, *failed) = (now, 0, 0);
        }
        *total += 1;
        *failed += u32::from(bad);
        *streak = if bad { *streak + 1 } else { 0 };
        let in_a_row = config.consecutive_failures > 0 && *streak >= config.consecutive_failures;
        let by_share = config.failure_percent > 0
            && *total >= config.minimum_requests
            && u64::from(*failed) * 100 >= u64::from(config.failure_percent) * u64::from(*total);
        if in_a_row || by_share {
            self.open(now);
        }
    }

    fn open(&mut self, now: Nanos) {
        self.turn(State::Open { until: now + self.config.open_for });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Nanos {
        Nanos::from_secs(seconds)
    }

    fn circuit(change: impl FnOnce(&mut CircuitConfig)) -> Circuit {
        let mut config = CircuitConfig::default();
        change(&mut config);
        Circuit::new(config, at(0))
    }

    fn run(circuit: &mut Circuit, now: u64, outcomes: &[Ended]) -> usize {
        let admitted = outcomes.iter().filter(|ended| match circuit.admit(at(now)) {
            Some(ticket) => {
                circuit.report(ticket, **ended, at(now));
                true
            }
            None => false,
        });
        admitted.count()
    }

    #[test]
    fn failures_in_a_row_open_it_and_probes_close_it() {
        let mut circuit = circuit(|_| {});
        assert_eq!(run(&mut circuit, 1, &[Ended::Badly; 4]), 4);
        assert_eq!(run(&mut circuit, 1, &[Ended::Well]), 1, "a success begins a new streak");
        assert_eq!(run(&mut circuit, 1, &[Ended::Badly; 9]), 5, "open after the fifth");
        assert_eq!(run(&mut circuit, 5, &[Ended::Well]), 0);
        let probes: Vec<Ticket> = (0..5).filter_map(|_| circuit.admit(at(6))).collect();
        assert_eq!(probes.len(), 3);
        circuit.report(probes[0], Ended::Well, at(6));
        assert_eq!(circuit.admit(at(6)), None, "one passed, two are running");
        circuit.report(probes[1], Ended::Well, at(6));
        circuit.report(probes[2], Ended::Well, at(6));
        assert_eq!(run(&mut circuit, 6, &[Ended::Well; 50]), 50);
    }

    #[test]
    fn a_failed_probe_opens_it_again_and_late_outcomes_say_nothing() {
        let mut circuit = circuit(|_| {});
        let late = circuit.admit(at(1)).unwrap();
        run(&mut circuit, 1, &[Ended::Badly; 5]);
        let probe = circuit.admit(at(6)).unwrap();
        circuit.report(late, Ended::Well, at(6));
        circuit.report(probe, Ended::Badly, at(6));
        assert_eq!(circuit.admit(at(10)), None);
        assert!(circuit.admit(at(11)).is_some());
    }

    #[test]
    fn a_probe_whose_caller_left_frees_its_place() {
        let mut circuit = circuit(|config| config.probes = 1);
        run(&mut circuit, 1, &[Ended::Badly; 5]);
        let probe = circuit.admit(at(6)).unwrap();
        assert_eq!(circuit.admit(at(6)), None);
        circuit.report(probe, Ended::Unknown, at(6));
        assert!(circuit.admit(at(6)).is_some());
    }

    #[test]
    fn a_share_of_failures_counts_within_a_window() {
        let share = |config: &mut CircuitConfig| {
            (config.consecutive_failures, config.failure_percent, config.minimum_requests) = (0, 50, 10);
        };
        let half = [Ended::Well, Ended::Badly].repeat(5);
        let mut one = circuit(share);
        assert_eq!(run(&mut one, 1, &half[..9]), 9);
        assert_eq!(run(&mut one, 12, &half), 10, "the first window is over");
        assert_eq!(run(&mut one, 12, &[Ended::Well]), 0);
        let mut spread = circuit(share);
        (0..10).for_each(|step| assert_eq!(run(&mut spread, step * 10, &half[..4]), 4, "too few in each window"));
    }

    proptest! {
        #[test]
        fn no_more_than_the_probes_run_while_half_open(steps in prop::collection::vec(0u8..4, 1..200)) {
            let mut circuit = circuit(|config| config.consecutive_failures = 1);
            let (mut running, mut now) = (Vec::new(), 0);
            for step in steps {
                match step {
                    0 => running.extend(circuit.admit(at(now))),
                    1 => now += 3,
                    _ => if let Some(ticket) = running.pop() {
                        circuit.report(ticket, if step == 2 { Ended::Well } else { Ended::Badly }, at(now));
                    }
                }
                if let State::HalfOpen { running, passed } = circuit.state {
                    prop_assert!(running + passed <= 3);
                }
            }
        }
    }
}
