//! Resolves configured certificates, keys and trust: inline, files, environment, secrets, the process's own identity.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tulle_config::Secret;
use tulle_config::store::Resources;
use tulle_config::tls::{
    CertificateSource, DataSource, Pins, SanMatcher, SecretOrigin, SecretRef, TlsCertificate, TrustSource, Validation,
};
use tulle_core::Str;

use crate::bundle::Revocations;
use crate::clock::CLOCK;
use crate::details::details;
use crate::verify::anchors;

/// This process's identity at one moment. `Debug` shows no key.
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// The mesh's trust bundle: one root, or two while roots rotate.
    pub roots: Vec<CertificateDer<'static>>,
    /// Other trust domains with theirs.
    pub federated: Vec<(Str, Vec<CertificateDer<'static>>)>,
    pub revoked: Arc<Revocations>,
}

impl Identity {
    /// When the leaf ends to be valid, in seconds since 1970; `None` when it cannot be read.
    pub fn expires(&self) -> Option<i64> {
        Some(details(self.chain.first()?).ok()?.not_after)
    }

    /// Whether nobody takes it any more. A clock that has just jumped is forgiven, as peers forgive theirs.
    pub fn has_expired(&self) -> bool {
        let (system, before) = CLOCK.now();
        let now = before.map_or(system, |before| before.min(system));
        self.expires().is_none_or(|end| end <= i64::try_from(now).unwrap_or(i64::MAX))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Identity({} certificates, {} roots, key redacted)", self.chain.len(), self.roots.len())
    }
}

/// Where the control thread puts each new identity and TLS contexts find it.
#[derive(Debug, Default)]
pub struct IdentityCell {
    current: RwLock<Option<Arc<Identity>>>,
    generation: AtomicU64,
}

impl IdentityCell {
    pub fn set(&self, identity: Identity) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(identity));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// `None` before the first certificate.
    pub fn get(&self) -> Option<Arc<Identity>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Grows with each new identity.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// Why TLS settings cannot be used (yet).
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("this process has no identity yet")]
    NoIdentity,
    #[error("this process's own certificate is no identity of the mesh: {0}")]
    Own(crate::peer::NameError),
    #[error("secret {0:?} has not arrived")]
    SecretMissing(Str),
    #[error("secret {0:?} is not a {1}")]
    SecretKind(Str, &'static str),
    #[error("cannot read {0}: {1}")]
    Read(String, io::Error),
    #[error("{0} holds no usable PEM {1}")]
    Pem(String, &'static str),
    #[error("TLS settings refused: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate chain with its key.
pub type KeyPair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Where settings find what they refer to.
pub struct Sources<'a> {
    pub identity: &'a IdentityCell,
    pub secrets: &'a Resources<Secret>,
}

impl Sources<'_> {
    /// The chain and key that `source` names.
    ///
    /// # Errors
    /// When a secret has not arrived or is of another kind, or the data cannot be read.
    pub fn certificate(&self, source: &CertificateSource) -> Result<KeyPair, MaterialError> {
        match source {
            CertificateSource::Inline(pair) => read_pair(pair),
            CertificateSource::Secret(SecretRef { origin: SecretOrigin::Identity, .. }) => {
                let own = self.identity.get().ok_or(MaterialError::NoIdentity)?;
                Ok((own.chain.clone(), own.key.clone_key()))
            }
            CertificateSource::Secret(SecretRef { name, .. }) => match &*self.secret(name)? {
                Secret::Certificate(pair) => read_pair(pair),
                Secret::Validation(_) => Err(MaterialError::SecretKind(name.clone(), "certificate")),
            },
        }
    }

    /// The trust anchors that `validation` names, following secrets; `None` when it names none.
    ///
    /// # Errors
    /// As [`Sources::certificate`].
    pub fn trust(&self, validation: &Validation) -> Result<Option<Trust>, MaterialError> {
        match &validation.trust {
            None => Ok(None),
            Some(TrustSource::Inline(data)) => Ok(Some(Trust::Roots(read_certificates(data)?))),
            Some(TrustSource::System) => Ok(Some(Trust::System)),
            Some(TrustSource::Secret(SecretRef { origin: SecretOrigin::Identity, .. })) => {
                let own = self.identity.get().ok_or(MaterialError::NoIdentity)?;
                let leaf = own.chain.first().ok_or(MaterialError::NoIdentity)?;
                let spiffe = crate::peer::names(leaf).and_then(|names| names.spiffe());
                let trust_domain = spiffe.map_err(MaterialError::Own)?.trust_domain;
                let (roots, federated, revoked) = (own.roots.clone(), own.federated.clone(), own.revoked.clone());
                Ok(Some(Trust::Mesh { roots, federated, revoked, trust_domain }))
            }
            Some(TrustSource::Secret(SecretRef { name, .. })) => match &*self.secret(name)? {
                Secret::Validation(inner) => match &inner.trust {
                    Some(TrustSource::Inline(data)) => Ok(Some(Trust::Roots(read_certificates(data)?))),
                    Some(TrustSource::System) => Ok(Some(Trust::System)),
                    Some(TrustSource::Secret(_)) | None => {
                        Err(MaterialError::SecretKind(name.clone(), "validation context with trusted certificates"))
                    }
                },
                Secret::Certificate(_) => Err(MaterialError::SecretKind(name.clone(), "validation context")),
            },
        }
    }

    /// The names any one of which the peer must have: those of the settings, else those of the secret they refer to.
    pub fn shown(&self, validation: &Validation) -> (Vec<SanMatcher>, Pins) {
        let inner = match &validation.trust {
            Some(TrustSource::Secret(secret)) => match self.secrets.get(&secret.name).map(|found| &**found) {
                Some(Secret::Validation(inner)) => Some(inner),
                Some(Secret::Certificate(_)) | None => None,
            },
            _ => None,
        };
        let sans = match inner {
            Some(inner) if validation.sans.is_empty() => inner.sans.clone(),
            _ => validation.sans.clone(),
        };
        let pins = match inner {
            Some(inner) if validation.pins.is_empty() => inner.pins.clone(),
            _ => validation.pins.clone(),
        };
        (sans, pins)
    }

    fn secret(&self, name: &Str) -> Result<Arc<Secret>, MaterialError> {
        self.secrets.get(name).cloned().ok_or_else(|| MaterialError::SecretMissing(name.clone()))
    }
}

/// Which roots a peer's chain must end in.
#[derive(Debug)]
pub enum Trust {
    /// The mesh's own: the peer must also be a SPIFFE identity of this process's trust domain, or of one that is
    /// federated, whose own roots its chain must end in.
    Mesh {
        roots: Vec<CertificateDer<'static>>,
        federated: Vec<(Str, Vec<CertificateDer<'static>>)>,
        revoked: Arc<Revocations>,
        trust_domain: Str,
    },
    Roots(Vec<CertificateDer<'static>>),
    /// The platform's root store.
    System,
}

/// Whether a certificate and its key can be read and go together.
///
/// # Errors
/// Why a server or client could not present it.
pub fn check_certificate(pair: &TlsCertificate) -> Result<(), MaterialError> {
    let (chain, key) = read_pair(pair)?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())?;
    Ok(())
}

/// Whether trusted certificates can be read.
///
/// # Errors
/// Why no peer could be verified by them.
pub fn check_roots(data: &DataSource) -> Result<(), MaterialError> {
    let roots = read_certificates(data)?;
    match anchors(&roots).is_empty() {
        true => Err(MaterialError::Pem(describe(data), "certificate")),
        false => Ok(()),
    }
}

fn read_pair(pair: &TlsCertificate) -> Result<KeyPair, MaterialError> {
    let key = read(&pair.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key);
    let key = key.map_err(|_| MaterialError::Pem(describe(&pair.key), "private key"))?;
    Ok((read_certificates(&pair.chain)?, key))
}

fn read_certificates(data: &DataSource) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let pem = read(data)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(MaterialError::Pem(describe(data), "certificate")),
    }
}

fn read(data: &DataSource) -> Result<Vec<u8>, MaterialError> {
    match data {
        DataSource::Inline(bytes) => Ok(bytes.to_vec()),
        DataSource::File(path) => std::fs::read(path).map_err(|error| MaterialError::Read(describe(data), error)),
        DataSource::Environment(name) => std::env::var(&**name)
            .map(String::into_bytes)
            .map_err(|error| MaterialError::Read(describe(data), io::Error::new(io::ErrorKind::NotFound, error))),
    }
}

fn describe(data: &DataSource) -> String {
    match data {
        DataSource::Inline(_) => "inline data".to_owned(),
        DataSource::File(path) => path.display().to_string(),
        DataSource::Environment(name) => format!("environment variable {name}"),
    }
}
