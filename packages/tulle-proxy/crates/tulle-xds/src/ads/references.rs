//! Which resources a listener or a cluster needs before it can go live, and for how long it waits for them.

use tulle_config::cluster::UpstreamTransport;
use tulle_config::filters::{Discovered, HttpFilter, Warming};
use tulle_config::hcm::ScopeSource;
use tulle_config::tls::{CertificateSource, CommonTls, SecretOrigin, SecretRef, TrustSource};
use tulle_config::{Cluster, Discovery, FilterChain, Listener, NetworkFilter, Patience, RouteSource, Source};
use tulle_core::Str;
use tulle_route::scopes::Scopes;

use crate::decode::Kind;

/// In the place of a name: whatever resources of the kind there are.
pub const ALL: &str = "*";

/// A resource by kind and name.
pub type Reference = (Kind, Str);

/// A resource, where it comes from, and thereby how long it is waited for.
pub type Need = (Reference, Source);

pub fn of_listener(listener: &Listener) -> Vec<Need> {
    let chains = listener.chains.iter().chain(&listener.default_chain).flat_map(of_chain);
    chains.chain(discovered(listener).map(of_filter)).collect()
}

fn of_filter(filter: &Discovered) -> Need {
    ((Kind::Extension, filter.name.clone()), Source::Ads(filter.patience))
}

/// What a listener waits for.
pub fn needed_by_listener(listener: &Listener) -> Vec<Need> {
    let chains = listener.chains.iter().chain(&listener.default_chain).flat_map(of_chain);
    let filters = discovered(listener).filter(|filter| filter.warming == Warming::Needed);
    chains.chain(filters.map(of_filter)).collect()
}

/// The filters of a listener whose settings are resources.
pub fn discovered(listener: &Listener) -> impl Iterator<Item = &Discovered> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    let filters = chains.filter_map(|chain| match &chain.filter {
        NetworkFilter::Http(hcm) => Some(&hcm.filters),
        _ => None,
    });
    filters.flatten().filter_map(|filter| match filter.awake() {
        HttpFilter::Discovered(discovered) => Some(discovered),
        _ => None,
    })
}

fn of_chain(chain: &FilterChain) -> Vec<Need> {
    let mut found: Vec<Need> = chain.tls.iter().flat_map(|tls| of_tls(&tls.common)).collect();
    if let NetworkFilter::Http(hcm) = &chain.filter {
        match &hcm.routes {
            RouteSource::Inline(_) => {}
            RouteSource::Rds(name, source) => found.push(((Kind::Route, name.clone()), source.clone())),
            RouteSource::Scoped(scoped) => match &scoped.scopes {
                ScopeSource::Inline(scopes) => found.extend(of_scopes(scopes, scoped.patience)),
                ScopeSource::Srds(patience) => found.push(((Kind::Scope, ALL.into()), Source::Ads(*patience))),
            },
        }
    }
    found
}

/// For how long the routes of scopes that are sent are waited for: as the listener says that asks for scopes.
pub fn patience_of_scopes(listener: &Listener) -> Option<Patience> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    chains
        .filter_map(|chain| match &chain.filter {
            NetworkFilter::Http(hcm) => match &hcm.routes {
                RouteSource::Scoped(scoped) => Some(scoped.patience),
                RouteSource::Inline(_) | RouteSource::Rds(..) => None,
            },
            _ => None,
        })
        .max()
}

pub fn of_scopes(scopes: &Scopes, patience: Patience) -> impl Iterator<Item = Need> {
    scopes.named().map(move |name| ((Kind::Route, name.clone()), Source::Ads(patience)))
}

pub fn of_cluster(cluster: &Cluster) -> Vec<Need> {
    let transports = cluster.transport_matches.iter().map(|entry| &entry.transport);
    let mut found: Vec<Need> = std::iter::once(&cluster.transport).chain(transports).flat_map(of_transport).collect();
    if let Discovery::Eds(name, source) = &cluster.discovery {
        found.push(((Kind::Endpoints, name.clone()), source.clone()));
    }
    found
}

fn of_transport(transport: &UpstreamTransport) -> Vec<Need> {
    transport.tls().map(|tls| of_tls(&tls.common)).unwrap_or_default()
}

fn of_tls(tls: &CommonTls) -> Vec<Need> {
    let certificates = tls.certificates.iter().filter_map(|certificate| match certificate {
        CertificateSource::Secret(secret) => discovered_secret(secret),
        CertificateSource::Inline(_) => None,
    });
    let roots = match &tls.validation.trust {
        Some(TrustSource::Secret(secret)) => discovered_secret(secret),
        _ => None,
    };
    certificates.chain(roots).collect()
}

fn discovered_secret(secret: &SecretRef) -> Option<Need> {
    match &secret.origin {
        SecretOrigin::Discovered(source) => Some(((Kind::Secret, secret.name.clone()), source.clone())),
        SecretOrigin::Identity | SecretOrigin::Static => None,
    }
}
