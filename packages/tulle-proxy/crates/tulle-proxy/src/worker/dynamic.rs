//! Hosts that only calls name: looked up when they are first called, each then with a target of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tulle_balance::{Endpoint, EndpointSet, LocalityEndpoints};
use tulle_config::Cluster;
use tulle_config::cluster::DnsFamily;
use tulle_core::{Address, Nanos, Str};

use super::{Target, Worker};
use crate::control::upstreams::{answers_of_family, look_up};

/// Envoy's defaults for its DNS cache: how long an answer holds, how long a host that nobody calls is kept, how many
/// there are at most.
const FRESH: Duration = Duration::from_secs(60);
const KEPT: Duration = Duration::from_secs(300);
const MOST: usize = 1024;

/// Why there is no target for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Its name does not resolve.
    Unknown,
    /// It is where nobody may go.
    Forbidden,
    /// Too many hosts are being called.
    TooMany,
}

/// A host as a call names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    pub host: String,
    pub port: u16,
}

impl Named {
    /// From an authority; without a port, the one that the cluster's transport stands for.
    pub fn of_authority(authority: &[u8], cluster: &Cluster) -> Option<Named> {
        let text = std::str::from_utf8(authority).ok()?;
        let default = if cluster.transport.tls().is_some() { 443 } else { 80 };
        let bracket = text.rfind(']').unwrap_or(0);
        let (host, port) = match text.rfind(':').filter(|at| *at >= bracket) {
            Some(at) => (&text[..at], text[at + 1..].parse().ok()?),
            None => (text, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        (!host.is_empty() && port != 0).then_some(Named { host, port })
    }
}

struct Known {
    cluster: Arc<Cluster>,
    target: Rc<Target>,
    address: SocketAddr,
    looked_up: Cell<Nanos>,
    used: Cell<Nanos>,
}

/// Every such host of one worker, by cluster.
#[derive(Default)]
pub struct Dynamic {
    hosts: RefCell<HashMap<(Str, Named), Rc<Known>>>,
}

impl Dynamic {
    /// The target for `named` of `cluster`.
    ///
    /// # Errors
    /// When there is none, and why. A host that was found before stays where it was while its name does not resolve.
    pub async fn target(
        &self,
        worker: &Rc<Worker>,
        cluster: &Arc<Cluster>,
        named: Named,
    ) -> Result<Rc<Target>, Unreachable> {
        let key = (cluster.name.clone(), named);
        let now = worker.now();
        let known = self.hosts.borrow().get(&key).filter(|known| Arc::ptr_eq(&known.cluster, cluster)).cloned();
        if let Some(known) = &known {
            known.used.set(now);
            if now - known.looked_up.get() < FRESH {
                return Ok(known.target.clone());
            }
        }
        let answer = match self.look_up(worker, cluster, &key.1).await {
            Err(Unreachable::Unknown) if known.is_some() => {
                known.as_ref().map(|known| known.address).into_iter().collect()
            }
            answer => answer?,
        };
        // Another request may have been quicker.
        let known = self.hosts.borrow().get(&key).filter(|known| Arc::ptr_eq(&known.cluster, cluster)).cloned();
        if let Some(known) = known.filter(|known| answer.contains(&known.address)) {
            known.looked_up.set(now);
            return Ok(known.target.clone());
        }
        let hostname = Some(key.1.host.as_str().into());
        self.insert(worker, cluster, key, (answer[0], hostname))
    }

    /// The target for an address of `cluster` that needs no look-up.
    ///
    /// # Errors
    /// When there is none, and why.
    pub fn at(
        &self,
        worker: &Rc<Worker>,
        cluster: &Arc<Cluster>,
        address: SocketAddr,
    ) -> Result<Rc<Target>, Unreachable> {
        let key = (cluster.name.clone(), Named { host: address.ip().to_string(), port: address.port() });
        let known = self.hosts.borrow().get(&key).filter(|known| Arc::ptr_eq(&known.cluster, cluster)).cloned();
        if let Some(known) = known {
            known.used.set(worker.now());
            return Ok(known.target.clone());
        }
        if cluster.egress.as_ref().is_some_and(|guard| guard.refuses(address, worker.own_servers())) {
            return Err(Unreachable::Forbidden);
        }
        self.insert(worker, cluster, key, (address, None))
    }

    /// At least one address, none of them forbidden.
    async fn look_up(&self, worker: &Worker, cluster: &Cluster, named: &Named) -> Result<Vec<SocketAddr>, Unreachable> {
        let asking = look_up(named.host.clone(), named.port);
        let answer = tokio::time::timeout(cluster.connect_timeout, asking).await;
        let mut found = answers_of_family(answer.ok().and_then(Result::ok).unwrap_or_default(), DnsFamily::V4Preferred);
        if found.is_empty() {
            return Err(Unreachable::Unknown);
        }
        if let Some(guard) = &cluster.egress {
            found.retain(|address| !guard.refuses(*address, worker.own_servers()));
        }
        if found.is_empty() { Err(Unreachable::Forbidden) } else { Ok(found) }
    }

    fn insert(
        &self,
        worker: &Rc<Worker>,
        cluster: &Arc<Cluster>,
        key: (Str, Named),
        (address, hostname): (SocketAddr, Option<Str>),
    ) -> Result<Rc<Target>, Unreachable> {
        let now = worker.now();
        let mut hosts = self.hosts.borrow_mut();
        if hosts.len() >= MOST && !hosts.contains_key(&key) {
            drop(hosts);
            self.forget_unused(now, Duration::ZERO);
            hosts = self.hosts.borrow_mut();
            if hosts.len() >= MOST {
                return Err(Unreachable::TooMany);
            }
        }
        let endpoint = Endpoint { hostname, ..Endpoint::new(Address::Ip(address)) };
        let locality = LocalityEndpoints {
            locality: tulle_balance::Locality::default(),
            priority: 0,
            weight: None,
            endpoints: [endpoint].into(),
        };
        let target = Rc::new(worker.new_target(cluster, Arc::new(EndpointSet::new(vec![locality]))));
        let known = Known {
            cluster: cluster.clone(),
            target: target.clone(),
            address,
            looked_up: Cell::new(now),
            used: Cell::new(now),
        };
        if let Some(before) = hosts.insert(key, Rc::new(known)) {
            before.target.upstream.retire();
        }
        Ok(target)
    }

    /// Lets go of hosts whose cluster has changed or gone: what may be called is asked anew.
    pub fn keep(&self, current: impl Fn(&Str) -> Option<Arc<Cluster>>) {
        self.hosts.borrow_mut().retain(|(name, _), known| {
            let same = current(name).is_some_and(|cluster| Arc::ptr_eq(&cluster, &known.cluster));
            if !same {
                known.target.upstream.retire();
            }
            same
        });
    }

    /// Every target there is now.
    pub fn each(&self, mut look: impl FnMut(&Target)) {
        self.hosts.borrow().values().for_each(|known| look(&known.target));
    }

    /// Housekeeping, as for other targets.
    pub fn sweep(&self, now: Nanos) {
        self.each(|target| target.upstream.sweep());
        self.forget_unused(now, KEPT);
    }

    fn forget_unused(&self, now: Nanos, longer: Duration) {
        self.hosts.borrow_mut().retain(|_, known| {
            let idle = now - known.used.get() >= longer && known.target.upstream.load().1 == 0;
            if idle {
                known.target.upstream.retire();
            }
            !idle
        });
    }
}
