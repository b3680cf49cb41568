//! A host as one worker sees it: its endpoint and its plain counters.

use std::cell::Cell;
use std::rc::Rc;

use tulle_core::Nanos;

use crate::endpoints::{Endpoint, Health};

/// Identifies a host within its balancer for as long as it lives; never reused, so pools may be keyed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub u64);

/// One upstream host of one worker.
#[derive(Debug)]
pub struct Host {
    pub id: HostId,
    pub endpoint: Endpoint,
    /// When this worker first saw it (slow start).
    pub since: Nanos,
    active: Cell<u32>,
    ejected: Cell<bool>,
    check_failed: Cell<bool>,
    removed: Cell<bool>,
}

impl Host {
    pub(crate) fn new(id: HostId, endpoint: Endpoint, since: Nanos) -> Self {
        Host {
            id,
            endpoint,
            since,
            active: Cell::new(0),
            ejected: Cell::new(false),
            check_failed: Cell::new(false),
            removed: Cell::new(false),
        }
    }

    /// The host that replaces `earlier` after an update that kept its address: same id and state, new settings.
    pub(crate) fn succeed(earlier: &Host, endpoint: Endpoint) -> Self {
        Host {
            id: earlier.id,
            endpoint,
            since: earlier.since,
            active: earlier.active.clone(),
            ejected: earlier.ejected.clone(),
            check_failed: earlier.check_failed.clone(),
            removed: Cell::new(false),
        }
    }

    /// Requests in flight.
    pub fn active(&self) -> u32 {
        self.active.get()
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn begin(self: &Rc<Self>) -> ActiveRequest {
        self.active.set(self.active.get() + 1);
        ActiveRequest { host: self.clone() }
    }

    /// Whether outlier detection has taken it out.
    pub fn ejected(&self) -> bool {
        self.ejected.get()
    }

    pub(crate) fn set_ejected(&self, ejected: bool) {
        self.ejected.set(ejected);
    }

    /// Whether active health checks fail.
    pub fn check_failed(&self) -> bool {
        self.check_failed.get()
    }

    pub(crate) fn set_check_failed(&self, failed: bool) {
        self.check_failed.set(failed);
    }

    /// Whether an update took it out of the cluster; its connections may be drained.
    pub fn removed(&self) -> bool {
        self.removed.get()
    }

    pub(crate) fn set_removed(&self) {
        self.removed.set(true);
    }

    /// What balancing should think of it: configured health, checks and ejection together.
    pub fn health(&self) -> Health {
        if self.ejected.get() || self.check_failed.get() { Health::Unhealthy } else { self.endpoint.health }
    }
}

/// A request in flight on a host.
#[derive(Debug)]
pub struct ActiveRequest {
    host: Rc<Host>,
}

impl ActiveRequest {
    pub fn host(&self) -> &Rc<Host> {
        &self.host
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.host.active.set(self.host.active.get() - 1);
    }
}
