//! Certificates and keys are looked at before they are used: what cannot be used replaces nothing, as with Envoy.

use tulle_config::tls::{CertificateSource, CommonTls, TrustSource};
use tulle_config::{Bootstrap, Cluster, Listener, Secret};
use tulle_identity::material::{MaterialError, check_certificate, check_roots};
use tulle_xds::decode::Resource;

/// What is wrong with the material that a resource holds or names.
pub fn check(resource: &Resource) -> Result<(), String> {
    let checked = match resource {
        Resource::Secret(_, secret) => of_secret(secret),
        Resource::Listener(listener) => of_listener(listener),
        Resource::Cluster(cluster) => of_cluster(cluster),
        Resource::Endpoints(..) | Resource::Scope(_) | Resource::Route(_) | Resource::Extension(..) => Ok(()),
    };
    checked.map_err(|error| error.to_string())
}

/// What is wrong with that of the static resources.
pub fn check_static(bootstrap: &Bootstrap) -> Result<(), String> {
    let resources = &bootstrap.resources;
    let within = |what: &str, name: &str, checked: Result<(), MaterialError>| {
        checked.map_err(|error| format!("static_resources.{what}: {name:?}: {error}"))
    };
    resources.secrets.iter().try_for_each(|(name, secret)| within("secrets", name, of_secret(secret)))?;
    resources.clusters.iter().try_for_each(|one| within("clusters", &one.name, of_cluster(one)))?;
    resources.listeners.iter().try_for_each(|one| within("listeners", &one.name, of_listener(one)))
}

fn of_secret(secret: &Secret) -> Result<(), MaterialError> {
    match secret {
        Secret::Certificate(pair) => check_certificate(pair),
        Secret::Validation(validation) => of_trust(validation.trust.as_ref()),
    }
}

fn of_listener(listener: &Listener) -> Result<(), MaterialError> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    chains.filter_map(|chain| chain.tls.as_ref()).try_for_each(|tls| of_settings(&tls.common))
}

fn of_cluster(cluster: &Cluster) -> Result<(), MaterialError> {
    let transports = cluster.transport_matches.iter().map(|entry| &entry.transport);
    let mut transports = std::iter::once(&cluster.transport).chain(transports);
    transports.try_for_each(|transport| transport.tls().map_or(Ok(()), |tls| of_settings(&tls.common)))
}

fn of_settings(settings: &CommonTls) -> Result<(), MaterialError> {
    settings.certificates.iter().try_for_each(|certificate| match certificate {
        CertificateSource::Inline(pair) => check_certificate(pair),
        CertificateSource::Secret(_) => Ok(()),
    })?;
    of_trust(settings.validation.trust.as_ref())
}

fn of_trust(trust: Option<&TrustSource>) -> Result<(), MaterialError> {
    match trust {
        Some(TrustSource::Inline(data)) => check_roots(data),
        Some(TrustSource::Secret(_) | TrustSource::System) | None => Ok(()),
    }
}
