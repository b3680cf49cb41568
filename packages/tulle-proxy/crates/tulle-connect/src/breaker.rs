//! Circuit breakers of one cluster on one worker: plain counters against the cluster's limits.
//!
//! Envoy shares these counters between its workers; here each worker holds its own, so a limit below the number of
//! workers is rounded up to one each.

use std::cell::Cell;
use std::rc::Rc;

use tulle_policy::{BreakerLimits, Priority};

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

#[derive(Debug, Default)]
struct Counts {
    connections: Cell<u32>,
    pending: Cell<u32>,
    requests: Cell<u32>,
    retries: Cell<u32>,
}

/// The counters of both priorities.
#[derive(Debug, Default)]
pub struct Breaker {
    counts: [Counts; 2],
}

fn index(priority: Priority) -> usize {
    match priority {
        Priority::Default => 0,
        Priority::High => 1,
    }
}

impl Breaker {
    fn cell(&self, resource: Resource, priority: Priority) -> &Cell<u32> {
        let counts = &self.counts[index(priority)];
        match resource {
            Resource::Connection => &counts.connections,
            Resource::Pending => &counts.pending,
            Resource::Request => &counts.requests,
            Resource::Retry => &counts.retries,
        }
    }

    pub fn count(&self, resource: Resource, priority: Priority) -> u32 {
        self.cell(resource, priority).get()
    }

    /// Whether one more fits.
    pub fn allows(&self, resource: Resource, priority: Priority, limits: &BreakerLimits) -> bool {
        let now = self.count(resource, priority);
        match resource {
            Resource::Connection => now < limits.max_connections,
            Resource::Pending => now < limits.max_pending_requests,
            Resource::Request => now < limits.max_requests,
            Resource::Retry => match &limits.retry_budget {
                Some(budget) => {
                    let counts = &self.counts[index(priority)];
                    budget.allows(now, counts.requests.get() + counts.pending.get())
                }
                None => now < limits.max_retries,
            },
        }
    }

    /// Counts one more until the guard is dropped; fails when the limit is reached.
    pub fn admit(
        self: &Rc<Self>,
        resource: Resource,
        priority: Priority,
        limits: &BreakerLimits,
    ) -> Result<Admission, Overflow> {
        if !self.allows(resource, priority, limits) {
            return Err(Overflow);
        }
        Ok(self.count_in(resource, priority))
    }

    /// Counts one more whatever the limit.
    pub fn count_in(self: &Rc<Self>, resource: Resource, priority: Priority) -> Admission {
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
}
