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
    /// Shared with the host that replaces this one when an update changes its settings but not its address, so that
    /// requests in flight count for both.
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    active: Cell<u32>,
    ejected: Cell<bool>,
    check_failed: Cell<bool>,
    removed: Cell<bool>,
    /// Place in a weighted schedule, between two pools.
    schedule: Cell<Option<f64>>,
}

impl Host {
    pub(crate) fn new(id: HostId, endpoint: Endpoint, since: Nanos) -> Self {
        Host { id, endpoint, since, state: Rc::default() }
    }

    /// The host that replaces this one after an update: same id and state, new settings.
    pub(crate) fn succeeded_by(&self, endpoint: Endpoint) -> Self {
        Host { id: self.id, endpoint, since: self.since, state: self.state.clone() }
    }

    pub(crate) fn schedule(&self) -> Option<f64> {
        self.state.schedule.get()
    }

    pub(crate) fn set_schedule(&self, left: f64) {
        self.state.schedule.set(Some(left));
    }

    /// Requests in flight.
    pub fn active(&self) -> u32 {
        self.state.active.get()
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn begin(self: &Rc<Self>) -> ActiveRequest {
        self.state.active.set(self.state.active.get() + 1);
        ActiveRequest { host: self.clone() }
    }

    /// Whether outlier detection has taken it out.
    pub fn ejected(&self) -> bool {
        self.state.ejected.get()
    }

    pub(crate) fn set_ejected(&self, ejected: bool) {
        self.state.ejected.set(ejected);
    }

    /// Whether active health checks fail.
    pub fn check_failed(&self) -> bool {
        self.state.check_failed.get()
    }

    pub(crate) fn set_check_failed(&self, failed: bool) {
        self.state.check_failed.set(failed);
    }

    /// Whether an update took it out of the cluster; its connections may be drained.
    pub fn removed(&self) -> bool {
        self.state.removed.get()
    }

    pub(crate) fn set_removed(&self) {
        self.state.removed.set(true);
    }

    /// What balancing should think of it: configured health, checks and ejection together.
    pub fn health(&self) -> Health {
        if self.state.ejected.get() || self.state.check_failed.get() { Health::Unhealthy } else { self.endpoint.health }
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
        let active = &self.host.state.active;
        active.set(active.get() - 1);
    }
}
