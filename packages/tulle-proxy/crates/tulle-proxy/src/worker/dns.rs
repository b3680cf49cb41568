//! Clusters whose endpoints are DNS names: looked up again and again, keeping the last good answer.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use tulle_balance::{Endpoint, EndpointMetadata, EndpointSet, LocalityEndpoints};
use tulle_config::Cluster;
use tulle_config::cluster::{DnsDiscovery, DnsEndpoint};
use tulle_core::Address;

use super::{Target, Worker};

/// Keeps `target`'s endpoints equal to what its names resolve to, until it is dropped or its cluster changes.
pub fn follow(worker: &Rc<Worker>, target: &Rc<Target>, cluster: &Arc<Cluster>, names: Arc<DnsDiscovery>) {
    let (worker, target, cluster) = (Rc::downgrade(worker), Rc::downgrade(target), cluster.clone());
    tokio::task::spawn_local(async move {
        loop {
            let resolved = resolve(&names).await;
            if !take_over(&worker, &target, &cluster, resolved) {
                return;
            }
            tokio::time::sleep(names.refresh).await;
        }
    });
}

/// False when nobody needs the answer any more.
fn take_over(
    worker: &Weak<Worker>,
    target: &Weak<Target>,
    cluster: &Arc<Cluster>,
    resolved: Option<EndpointSet>,
) -> bool {
    // Without its worker a target serves nobody.
    let (Some(_), Some(target)) = (worker.upgrade(), target.upgrade()) else { return false };
    if !Arc::ptr_eq(&target.upstream.config(), cluster) {
        return false;
    }
    if let Some(endpoints) = resolved {
        target.upstream.update(cluster.clone(), Arc::new(endpoints));
    }
    true
}

/// `None` when a name did not resolve: the last good answer stays.
async fn resolve(names: &DnsDiscovery) -> Option<EndpointSet> {
    let mut localities = Vec::with_capacity(names.endpoints.len());
    for entry in &names.endpoints {
        let endpoints = match &entry.address {
            Address::Name { host, port } => {
                let found = tokio::net::lookup_host((&**host, *port)).await.ok()?;
                found.map(|address| endpoint(entry, Address::Ip(address))).collect()
            }
            fixed => vec![endpoint(entry, fixed.clone())],
        };
        localities.push(LocalityEndpoints {
            locality: entry.locality.clone(),
            priority: entry.priority,
            weight: entry.locality_weight,
            endpoints: endpoints.into(),
        });
    }
    Some(EndpointSet::new(localities))
}

fn endpoint(entry: &DnsEndpoint, address: Address) -> Endpoint {
    Endpoint {
        hostname: Some(entry.hostname.clone()),
        weight: entry.weight,
        metadata: Arc::new(EndpointMetadata::default()),
        ..Endpoint::new(address)
    }
}
