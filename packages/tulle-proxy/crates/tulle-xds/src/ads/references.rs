//! Which resources a listener or a cluster needs before it can go live.

use tulle_config::cluster::UpstreamTransport;
use tulle_config::tls::{CertificateSource, CommonTls, SecretOrigin, SecretRef, TrustSource};
use tulle_config::{Cluster, Discovery, FilterChain, Listener, NetworkFilter, RouteSource};
use tulle_core::Str;

use crate::decode::Kind;

/// A resource by kind and name.
pub type Reference = (Kind, Str);

pub fn of_listener(listener: &Listener) -> Vec<Reference> {
    listener.chains.iter().chain(&listener.default_chain).flat_map(of_chain).collect()
}

fn of_chain(chain: &FilterChain) -> Vec<Reference> {
    let mut found: Vec<Reference> = chain.tls.iter().flat_map(|tls| of_tls(&tls.common)).collect();
    if let NetworkFilter::Http(hcm) = &chain.filter
        && let RouteSource::Rds(name) = &hcm.routes
    {
        found.push((Kind::Route, name.clone()));
    }
    found
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
    match transport {
        UpstreamTransport::Plaintext => Vec::new(),
        UpstreamTransport::Tls(tls) => of_tls(&tls.common),
    }
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
