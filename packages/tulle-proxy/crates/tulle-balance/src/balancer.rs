//! The balancer of one cluster on one worker.

use std::rc::Rc;
use std::sync::Arc;

use tulle_core::{Nanos, Rng, Str};

use crate::config::LbConfig;
use crate::endpoints::EndpointSet;
use crate::host::{Host, HostId};

/// What a pick may depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickContext<'a> {
    /// From the route's hash policies; without one, hash policies pick at random.
    pub hash: Option<u64>,
    /// Required labels, sorted by key (route and weighted cluster `metadata_match`).
    pub subset: &'a [(Str, Str)],
    /// Hosts already tried for this request.
    pub tried: &'a [HostId],
    /// How often to pick again when a tried host comes up; the last pick is then taken anyway.
    pub attempts: u32,
}

/// Why there is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHost {
    #[error("the cluster has no hosts")]
    Empty,
    #[error("no healthy host")]
    NoneHealthy,
    #[error("no subset fits the request")]
    NoSubset,
}

/// Balances one cluster on one worker.
#[derive(Debug)]
pub struct Balancer {
    config: Arc<LbConfig>,
    hosts: Vec<Rc<Host>>,
}

impl Balancer {
    /// `seed` decides where rotations start, so that many proxies do not start on the same host.
    pub fn new(config: Arc<LbConfig>, set: &EndpointSet, now: Nanos, seed: u64) -> Self {
        let _ = (set, now, seed);
        Balancer { config, hosts: Vec::new() }
    }

    /// Takes over new endpoints; hosts whose address stays keep their id, counters and state. Returns the hosts that left.
    pub fn update(&mut self, set: &EndpointSet, now: Nanos) -> Vec<Rc<Host>> {
        let _ = (set, now);
        Vec::new()
    }

    /// Picks a host; allocation-free.
    pub fn pick(&mut self, context: &PickContext<'_>, rng: &mut Rng, now: Nanos) -> Result<Rc<Host>, NoHost> {
        let _ = (context, rng, now, &self.config);
        self.hosts.first().cloned().ok_or(NoHost::Empty)
    }

    /// All hosts, for `/clusters` and health checks.
    pub fn hosts(&self) -> &[Rc<Host>] {
        &self.hosts
    }

    /// Tells the result of a host's active health check.
    pub fn set_check_failed(&mut self, host: HostId, failed: bool) {
        let _ = (host, failed);
    }

    /// Tells that outlier detection ejected or returned a host.
    pub fn set_ejected(&mut self, host: HostId, ejected: bool) {
        let _ = (host, ejected);
    }
}
