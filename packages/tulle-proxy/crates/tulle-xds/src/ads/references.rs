//! Which resources a listener or a cluster needs before it can go live.

use tulle_config::cluster::UpstreamTransport;
use tulle_config::filters::{Discovered, HttpFilter, Warming};
use tulle_config::hcm::ScopeSource;
use tulle_config::tls::{CertificateSource, CommonTls, SecretOrigin, SecretRef, TrustSource};
use tulle_config::{Cluster, Discovery, FilterChain, Listener, NetworkFilter, RouteSource};
use tulle_core::Str;
use tulle_route::scopes::Scopes;

use crate::decode::Kind;

/// In the place of a name: whatever resources of the kind there are.
pub const ALL: &str = "*";

/// A resource by kind and name.
pub type Reference = (Kind, Str);

pub fn of_listener(listener: &Listener) -> Vec<Reference> {
    let chains = listener.chains.iter().chain(&listener.default_chain).flat_map(of_chain);
    chains.chain(discovered(listener).map(|filter| (Kind::Extension, filter.name.clone()))).collect()
}

/// What a listener waits for.
pub fn needed_by_listener(listener: &Listener) -> Vec<Reference> {
    let chains = listener.chains.iter().chain(&listener.default_chain).flat_map(of_chain);
    let filters = discovered(listener).filter(|filter| filter.warming == Warming::Needed);
    chains.chain(filters.map(|filter| (Kind::Extension, filter.name.clone()))).collect()
}

/// The filters of a listener whose settings are resources.
pub fn discovered(listener: &Listener) -> impl Iterator<Item = &Discovered> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    let filters = chains.filter_map(|chain| match &chain.filter {
        NetworkFilter::Http(hcm) => Some(&hcm.filters),
        _ => None,
    });
    filters.flatten().filter_map(|filter| match filter {
        HttpFilter::Discovered(discovered) => Some(discovered),
        _ => None,
    })
}

fn of_chain(chain: &FilterChain) -> Vec<Reference> {
    let mut found: Vec<Reference> = chain.tls.iter().flat_map(|tls| of_tls(&tls.common)).collect();
    if let NetworkFilter::Http(hcm) = &chain.filter {
        match &hcm.routes {
            RouteSource::Inline(_) => {}
            RouteSource::Rds(name) => found.push((Kind::Route, name.clone())),
            RouteSource::Scoped(scoped) => match &scoped.scopes {
                ScopeSource::Inline(scopes) => found.extend(of_scopes(scopes)),
                ScopeSource::Srds => found.push((Kind::Scope, ALL.into())),
            },
        }
    }
    found
}

pub fn of_scopes(scopes: &Scopes) -> impl Iterator<Item = Reference> {
    scopes.named().map(|name| (Kind::Route, name.clone()))
}

pub fn of_cluster(cluster: &Cluster) -> Vec<Reference> {
    let transports = cluster.transport_matches.iter().map(|entry| &entry.transport);
    let mut found: Vec<Reference> =
        std::iter::once(&cluster.transport).chain(transports).flat_map(of_transport).collect();
    if let Discovery::Eds(name) = &cluster.discovery {
        found.push((Kind::Endpoints, name.clone()));
    }
    found
}

fn of_transport(transport: &UpstreamTransport) -> Vec<Reference> {
    transport.tls().map(|tls| of_tls(&tls.common)).unwrap_or_default()
}

fn of_tls(tls: &CommonTls) -> Vec<Reference> {
    let certificates = tls.certificates.iter().filter_map(|certificate| match certificate {
        CertificateSource::Secret(secret) => from_ads(secret),
        CertificateSource::Inline(_) => None,
    });
    let roots = match &tls.validation.trust {
        Some(TrustSource::Secret(secret)) => from_ads(secret),
        _ => None,
    };
    certificates.chain(roots).collect()
}

fn from_ads(secret: &SecretRef) -> Option<Reference> {
    (secret.origin == SecretOrigin::Ads).then(|| (Kind::Secret, secret.name.clone()))
}
