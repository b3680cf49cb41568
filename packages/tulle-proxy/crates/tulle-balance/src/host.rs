//! A host as one worker sees it: its endpoint and its plain counters.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tulle_core::Nanos;

use crate::config::PeakEwma;
use crate::endpoints::{Endpoint, Health};

/// Identifies a host within its balancer for as long as it lives; never reused, so pools may be keyed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub u64);

/// One upstream host of one worker.
#[derive(Debug)]
pub struct Host {
    pub id: HostId,
    pub endpoint: Endpoint,
    /// Shared with the host that replaces this one when an update changes its settings but not its address, so that
    /// requests in flight count for both.
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    active: Cell<u32>,
    ejected: Cell<bool>,
    check_failed: Cell<bool>,
    degraded: Cell<bool>,
    removed: Cell<bool>,
    /// Place in a weighted schedule, between two pools.
    schedule: Cell<Option<f64>>,
    /// When this worker first saw it, or last saw it recover (slow start).
    since: Cell<Nanos>,
    latency: Cell<Latency>,
}

/// A moving average of a host's answers in nanoseconds, as of a time. A slower answer than the average replaces it.
#[derive(Clone, Copy, Debug, Default)]
struct Latency {
    average: f64,
    at: Nanos,
}

impl Latency {
    fn decayed(self, decay: Duration, now: Nanos) -> f64 {
        let passed = now.since(self.at).as_secs_f64();
        self.average * (-passed / decay.as_secs_f64().max(1e-9)).exp()
    }
}

impl Host {
    pub(crate) fn new(id: HostId, endpoint: Endpoint, since: Nanos) -> Self {
        let state = State { since: Cell::new(since), ..State::default() };
        Host { id, endpoint, state: Rc::new(state) }
    }

    /// The host that replaces this one after an update: same id and state, new settings.
    pub(crate) fn succeeded_by(&self, endpoint: Endpoint) -> Self {
        Host { id: self.id, endpoint, state: self.state.clone() }
    }

    /// Since when it has been taking requests.
    pub fn since(&self) -> Nanos {
        self.state.since.get()
    }

    /// It takes requests again, slowly at first.
    pub(crate) fn recovered(&self, now: Nanos) {
        self.state.since.set(now);
    }

    /// An answer took this long.
    pub fn observe(&self, took: Duration, settings: &PeakEwma, now: Nanos) {
        let (known, took) = (self.state.latency.get(), took.as_nanos() as f64);
        let rest = known.decayed(settings.decay, now);
        // `rest` has lost weight with time; the new answer fills it up.
        let weight = if known.average > 0.0 { rest / known.average } else { 0.0 };
        let average = if took > known.average { took } else { rest + took * (1.0 - weight) };
        self.state.latency.set(Latency { average, at: now });
    }

    /// How long one more request to this host is expected to take, in nanoseconds: what peak EWMA compares.
    pub fn cost(&self, settings: &PeakEwma, now: Nanos) -> f64 {
        let average = self.state.latency.get().decayed(settings.decay, now);
        // A host that nobody has heard from is tried, but not by everybody at once.
        let average =
            if average < 1.0 && self.active() > 0 { settings.default_latency.as_nanos() as f64 } else { average };
        average * f64::from(self.active() + 1)
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

    /// Whether that is news.
    pub(crate) fn set_degraded(&self, degraded: bool) -> bool {
        self.state.degraded.replace(degraded) != degraded
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
        match self.endpoint.health {
            _ if self.state.ejected.get() || self.state.check_failed.get() => Health::Unhealthy,
            Health::Healthy if self.state.degraded.get() => Health::Degraded,
            said => said,
        }
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
