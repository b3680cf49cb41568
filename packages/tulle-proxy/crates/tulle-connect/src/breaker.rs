//! Circuit breakers of one cluster: what is in flight against the cluster's limits, which hold for the whole process.
//!
//! Each worker counts its own in plain cells. Where there are several, what all of them have is counted in [`Common`],
//! and that is what limits are compared with; one worker pays no locked instruction.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tulle_core::{Nanos, Str};
use tulle_policy::{BreakerLimits, CircuitBreakers, Priority};

use crate::recent::Recent;

/// A limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// What a breaker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Connection,
    Pending,
    Request,
    Retry,
}

/// One place for each resource of each priority.
type PerResource<T> = [[T; 4]; 2];

fn place<T>(counts: &PerResource<T>, resource: Resource, priority: Priority) -> &T {
    let row = match priority {
        Priority::Default => &counts[0],
        Priority::High => &counts[1],
    };
    &row[resource as usize]
}

/// The limit of a resource; `in_flight` are the requests that a retry budget is a share of.
fn most(resource: Resource, limits: &BreakerLimits, in_flight: impl FnOnce() -> u32) -> u32 {
    match resource {
        Resource::Connection => limits.max_connections,
        Resource::Pending => limits.max_pending_requests,
        Resource::Request => limits.max_requests,
        Resource::Retry => limits.retry_budget.map_or(limits.max_retries, |budget| budget.most(in_flight())),
    }
}

/// What all workers together have of one cluster.
#[derive(Debug, Default)]
pub struct Common {
    counts: PerResource<AtomicU32>,
    /// Of each priority, where a retry budget looks at them.
    recent: [Mutex<Recent>; 2],
}

impl Common {
    fn cell(&self, resource: Resource, priority: Priority) -> &AtomicU32 {
        place(&self.counts, resource, priority)
    }

    /// How many there are now.
    pub fn count(&self, resource: Resource, priority: Priority) -> u32 {
        self.cell(resource, priority).load(Ordering::Relaxed)
    }

    fn recent(&self, priority: Priority) -> MutexGuard<'_, Recent> {
        let at = usize::from(priority == Priority::High);
        self.recent[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more fit.
    pub fn remaining(&self, resource: Resource, priority: Priority, limits: &BreakerLimits) -> u32 {
        let in_flight = || self.count(Resource::Request, priority) + self.count(Resource::Pending, priority);
        most(resource, limits, in_flight).saturating_sub(self.count(resource, priority))
    }
}

/// The common counts by the name of their cluster, for as long as a worker uses them.
#[derive(Debug)]
pub struct Breakers {
    workers: usize,
    known: Mutex<HashMap<Str, Weak<Common>>>,
}

impl Breakers {
    pub fn for_workers(workers: usize) -> Self {
        Breakers { workers, known: Mutex::default() }
    }

    /// Those of a cluster, made on first use; `None` where one worker's own counts say all and nothing of them is shown.
    pub fn of(&self, cluster: &Str, limits: &CircuitBreakers) -> Option<Arc<Common>> {
        (self.workers > 1 || limits.tracked()).then(|| self.common(cluster))
    }

    fn common(&self, cluster: &Str) -> Arc<Common> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(common) = known.get(cluster).and_then(Weak::upgrade) {
            return common;
        }
        // Now and then what nobody uses any more is forgotten, so that names that come and go do not add up.
        if known.len().is_power_of_two() {
            known.retain(|_, common| common.strong_count() > 0);
        }
        let common = Arc::new(Common::default());
        known.insert(cluster.clone(), Arc::downgrade(&common));
        common
    }

    /// Those of a cluster that some worker uses.
    pub fn used(&self, cluster: &str) -> Option<Arc<Common>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(cluster)?.upgrade()
    }
}

/// One worker's counts of a cluster.
#[derive(Debug, Default)]
pub struct Breaker {
    own: PerResource<Cell<u32>>,
    common: Option<Arc<Common>>,
}

impl Breaker {
    /// `common`: where others count too.
    pub fn new(common: Option<Arc<Common>>) -> Self {
        Breaker { own: PerResource::default(), common }
    }

    fn cell(&self, resource: Resource, priority: Priority) -> &Cell<u32> {
        place(&self.own, resource, priority)
    }

    /// What this worker has.
    pub fn count(&self, resource: Resource, priority: Priority) -> u32 {
        self.cell(resource, priority).get()
    }

    /// What all have.
    fn total(&self, resource: Resource, priority: Priority) -> u32 {
        match &self.common {
            Some(common) => common.count(resource, priority),
            None => self.count(resource, priority),
        }
    }

    fn most(&self, resource: Resource, priority: Priority, limits: &BreakerLimits) -> u32 {
        most(resource, limits, || self.total(Resource::Request, priority) + self.total(Resource::Pending, priority))
    }

    /// Whether one more fits.
    pub fn allows(&self, resource: Resource, priority: Priority, limits: &BreakerLimits) -> bool {
        self.total(resource, priority) < self.most(resource, priority, limits)
    }

    /// A request begins, of which a retry budget takes notice for so long.
    pub fn note_request(&self, priority: Priority, now: Nanos, interval: Duration) {
        if let Some(common) = &self.common {
            common.recent(priority).note(now, interval);
        }
    }

    /// The same as `admit` for a retry where requests count for their budget's interval.
    pub fn admit_retry(
        self: &Rc<Self>,
        priority: Priority,
        limits: &BreakerLimits,
        (now, interval): (Nanos, Duration),
    ) -> Result<Admission, Overflow> {
        let active = self.total(Resource::Request, priority) + self.total(Resource::Pending, priority);
        let recent = self.common.as_ref().map_or(0, |common| common.recent(priority).count(now, interval));
        let most = most(Resource::Retry, limits, || active.max(recent));
        self.admit_within(Resource::Retry, priority, most)
    }

    /// Counts one more until the guard is dropped; fails when the limit is reached.
    pub fn admit(
        self: &Rc<Self>,
        resource: Resource,
        priority: Priority,
        limits: &BreakerLimits,
    ) -> Result<Admission, Overflow> {
        self.admit_within(resource, priority, self.most(resource, priority, limits))
    }

    fn admit_within(self: &Rc<Self>, resource: Resource, priority: Priority, most: u32) -> Result<Admission, Overflow> {
        match &self.common {
            None if self.count(resource, priority) >= most => return Err(Overflow),
            None => {}
            Some(common) => {
                let one_more = |now| (now < most).then_some(now + 1);
                let counted =
                    common.cell(resource, priority).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
                counted.map_err(|_| Overflow)?;
            }
        }
        Ok(self.counted(resource, priority))
    }

    /// Counts one more whatever the limit.
    pub fn count_in(self: &Rc<Self>, resource: Resource, priority: Priority) -> Admission {
        if let Some(common) = &self.common {
            common.cell(resource, priority).fetch_add(1, Ordering::Relaxed);
        }
        self.counted(resource, priority)
    }

    /// Counts one that the common counts have already.
    fn counted(self: &Rc<Self>, resource: Resource, priority: Priority) -> Admission {
        let cell = self.cell(resource, priority);
        cell.set(cell.get() + 1);
        Admission { breaker: self.clone(), resource, priority }
    }
}

/// One counted connection, request or retry.
#[derive(Debug)]
pub struct Admission {
    breaker: Rc<Breaker>,
    resource: Resource,
    priority: Priority,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let cell = self.breaker.cell(self.resource, self.priority);
        cell.set(cell.get() - 1);
        if let Some(common) = &self.breaker.common {
            common.cell(self.resource, self.priority).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_until_a_guard_is_dropped() {
        let breaker = Rc::new(Breaker::default());
        let limits = BreakerLimits { max_requests: 1, ..BreakerLimits::default() };
        let first = breaker.admit(Resource::Request, Priority::Default, &limits).unwrap();
        assert!(breaker.admit(Resource::Request, Priority::Default, &limits).is_err());
        assert!(breaker.admit(Resource::Request, Priority::High, &limits).is_ok());
        drop(first);
        assert!(breaker.admit(Resource::Request, Priority::Default, &limits).is_ok());
    }

    /// What two workers of one process have of a cluster.
    fn two() -> (Breakers, Rc<Breaker>, Rc<Breaker>) {
        let breakers = Breakers::for_workers(2);
        let made = || Rc::new(Breaker::new(breakers.of(&"c".into(), &CircuitBreakers::default())));
        let (one, other) = (made(), made());
        (breakers, one, other)
    }

    #[test]
    fn workers_share_a_limit() {
        let (breakers, one, other) = two();
        let limits = BreakerLimits { max_requests: 2, max_retries: 0, ..BreakerLimits::default() };
        let first = one.admit(Resource::Request, Priority::Default, &limits).unwrap();
        let second = other.admit(Resource::Request, Priority::Default, &limits).unwrap();
        assert!(one.admit(Resource::Request, Priority::Default, &limits).is_err());
        assert!(!other.allows(Resource::Request, Priority::Default, &limits));
        assert_eq!(one.count(Resource::Request, Priority::Default), 1);
        let common = breakers.used("c").unwrap();
        assert_eq!(common.count(Resource::Request, Priority::Default), 2);
        assert_eq!(common.remaining(Resource::Request, Priority::Default, &limits), 0);
        assert_eq!(common.remaining(Resource::Connection, Priority::Default, &limits), 1024);
        drop(first);
        let third = other.admit(Resource::Request, Priority::Default, &limits).unwrap();
        assert!(one.admit(Resource::Retry, Priority::Default, &limits).is_err());
        drop((second, third, one, other, common));
        assert!(breakers.used("c").is_none(), "nobody uses it any more");
    }

    #[test]
    fn one_worker_counts_for_itself_unless_it_is_looked_at() {
        let breakers = Breakers::for_workers(1);
        let mut limits = CircuitBreakers::default();
        assert!(breakers.of(&"c".into(), &limits).is_none());
        limits.high.track_remaining = true;
        assert!(breakers.of(&"c".into(), &limits).is_some());
    }

    #[test]
    fn a_retry_budget_is_a_share_of_all_workers_requests() {
        let (_breakers, one, other) = two();
        let budget = tulle_policy::RetryBudgetConfig { percent: 50.0, min_concurrency: 0, interval: Duration::ZERO };
        let limits = BreakerLimits { retry_budget: Some(budget), ..BreakerLimits::default() };
        let _requests = [(); 2].map(|()| other.count_in(Resource::Request, Priority::Default));
        let _retry = one.admit(Resource::Retry, Priority::Default, &limits).unwrap();
        assert!(one.admit(Resource::Retry, Priority::Default, &limits).is_err());
        assert!(other.admit(Resource::Retry, Priority::Default, &limits).is_err());
    }
}
