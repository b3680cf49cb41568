//! One worker's state of a cluster's own extensions: its circuit, its retry budget, and the last good answers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tulle_config::own::{Guarded, Own};
use tulle_core::Nanos;
use tulle_policy::circuit::{Circuit, Ended, Ticket};
use tulle_policy::deadline::DeadlineConfig;
use tulle_policy::retry_rate::RetryBudget;

/// As many answers are kept for one cluster.
const ANSWERS: usize = 256;

pub struct Guard {
    own: Own,
    circuit: Option<RefCell<Circuit>>,
    budget: Option<RefCell<RetryBudget>>,
    answers: RefCell<HashMap<Vec<u8>, Answer>>,
}

/// An answer that may be given again.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    pub at: Nanos,
}

impl Guard {
    pub fn new(own: &Own, now: Nanos) -> Guard {
        Guard {
            own: own.clone(),
            circuit: own.circuit.as_ref().map(|guarded| RefCell::new(Circuit::new(guarded.circuit, now))),
            budget: own.retry_rate.map(|rate| RefCell::new(RetryBudget::new(rate, now))),
            answers: RefCell::default(),
        }
    }

    pub fn is_for(&self, own: &Own) -> bool {
        self.own == *own
    }

    pub fn guarded(&self) -> Option<&Guarded> {
        self.own.circuit.as_ref()
    }

    pub fn deadline(&self) -> Option<&DeadlineConfig> {
        self.own.deadline.as_ref()
    }

    /// A request begins. `None` when the circuit keeps it back.
    pub fn admit(self: &Rc<Self>, now: Nanos) -> Option<Passed> {
        let ticket = match &self.circuit {
            Some(circuit) => Some(circuit.borrow_mut().admit(now)?),
            None => None,
        };
        if let Some(budget) = &self.budget {
            budget.borrow_mut().request(now);
        }
        Some(Passed { guard: self.clone(), ticket })
    }

    /// Whether the budget has room for one retry more.
    pub fn may_retry(&self, now: Nanos) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.borrow_mut().take(now))
    }

    /// The last good answer, if it is not older than allowed.
    pub fn answer(&self, key: &[u8], max_age: std::time::Duration, now: Nanos) -> Option<Answer> {
        self.answers.borrow().get(key).filter(|answer| now.since(answer.at) <= max_age).cloned()
    }

    /// Keeps an answer; the oldest makes room.
    pub fn keep(&self, key: Vec<u8>, answer: Answer) {
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= ANSWERS && !answers.contains_key(&key) {
            let oldest = answers.iter().min_by_key(|(_, answer)| answer.at).map(|(key, _)| key.clone());
            oldest.and_then(|key| answers.remove(&key));
        }
        answers.insert(key, answer);
    }
}

/// A request that the circuit let through. Dropped without a word, it says nothing about the destination.
pub struct Passed {
    guard: Rc<Guard>,
    ticket: Option<Ticket>,
}

impl Passed {
    pub fn guard(&self) -> &Rc<Guard> {
        &self.guard
    }

    /// Tells the circuit how the request ended.
    pub fn ended(&mut self, ended: Ended, now: Nanos) {
        if let (Some(ticket), Some(circuit)) = (self.ticket.take(), &self.guard.circuit) {
            circuit.borrow_mut().report(ticket, ended, now);
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        // Only a half-open circuit counts what runs, and it looks at no time for this.
        self.ended(Ended::Unknown, Nanos::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tulle_config::own::Fallback;
    use tulle_policy::circuit::CircuitConfig;

    fn guard(probes: u32) -> Rc<Guard> {
        let circuit = CircuitConfig { consecutive_failures: 1, probes, ..CircuitConfig::default() };
        let guarded = Guarded { circuit, fallback: Fallback::Refuse };
        Rc::new(Guard::new(&Own { circuit: Some(guarded), ..Own::default() }, Nanos::ZERO))
    }

    #[test]
    fn a_request_that_vanishes_frees_its_probe() {
        let guard = guard(1);
        guard.admit(Nanos::ZERO).unwrap().ended(Ended::Badly, Nanos::ZERO);
        assert!(guard.admit(Nanos::ZERO).is_none());
        let later = Nanos::from_secs(60);
        let probe = guard.admit(later).unwrap();
        assert!(guard.admit(later).is_none());
        drop(probe);
        assert!(guard.admit(later).is_some());
    }

    #[test]
    fn answers_age_and_the_oldest_makes_room() {
        let guard = guard(1);
        let answer = |at| Answer { status: 200, headers: Vec::new(), body: Vec::new(), at: Nanos::from_secs(at) };
        for at in 0..=ANSWERS as u64 {
            guard.keep(at.to_le_bytes().to_vec(), answer(at));
        }
        let now = Nanos::from_secs(ANSWERS as u64);
        let has = |key: u64, age: u64| guard.answer(&key.to_le_bytes(), Duration::from_secs(age), now).is_some();
        assert!(!has(0, 1_000) && has(1, 1_000) && !has(1, 10) && has(ANSWERS as u64, 0));
    }
}
