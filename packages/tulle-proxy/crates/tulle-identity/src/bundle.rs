//! The mesh's trust as the authority pushes it: the roots, the one that signs first, and what was revoked under them.

use std::collections::HashSet;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::material::Identity;
use crate::verify::anchors;

/// PEM text; public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    pub roots: String,
    /// Revocation lists (RFC 5280); empty when nothing was revoked.
    pub lists: String,
    /// Other trust domains and their roots: each vouches for its own members alone.
    pub federated: Vec<(String, String)>,
}

/// Why a bundle cannot be used: the one before stays in force.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BundleError {
    #[error("it holds no readable root")]
    Roots,
    #[error("it holds an unreadable revocation list")]
    Lists,
}

/// Revocation lists, parsed. The default revokes nothing.
#[derive(Debug, Default)]
pub struct Revocations {
    lists: Vec<CertRevocationList<'static>>,
    serials: HashSet<Vec<u8>>,
}

impl Revocations {
    /// # Errors
    /// [`BundleError::Lists`] when any of them cannot be read: a list left out would let somebody in.
    pub fn parse(pem: &str) -> Result<Revocations, BundleError> {
        let mut found = Revocations::default();
        for list in CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()) {
            let der = list.map_err(|_| BundleError::Lists)?;
            let list = OwnedCertRevocationList::from_der(&der).map_err(|_| BundleError::Lists)?;
            let (_, parsed) = CertificateRevocationList::from_der(&der).map_err(|_| BundleError::Lists)?;
            found.serials.extend(parsed.iter_revoked_certificates().map(|each| significant(each.raw_serial())));
            found.lists.push(list.into());
        }
        Ok(found)
    }

    /// Whether a certificate with this serial number (big-endian) was revoked.
    pub fn holds(&self, serial: &[u8]) -> bool {
        !self.serials.is_empty() && self.serials.contains(&significant(serial))
    }

    /// As webpki takes them; empty when nothing was revoked.
    pub(crate) fn lists(&self) -> Vec<&CertRevocationList<'static>> {
        self.lists.iter().collect()
    }
}

/// A number without leading zeros, which DER puts before a high bit.
fn significant(serial: &[u8]) -> Vec<u8> {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial[zeros..].to_vec()
}

/// The certificates in `pem`.
///
/// # Errors
/// [`BundleError::Roots`] when there is none or one cannot be read.
pub fn roots(pem: &str) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(BundleError::Roots)
}

/// Whether the identity's certificate ends in the root that signs now. If not, it is to be renewed at once: the root
/// it ends in is about to be dropped.
pub fn is_current(identity: &Identity) -> bool {
    let (Some(signing), [leaf, intermediates @ ..]) = (identity.roots.first(), &identity.chain[..]) else {
        return false;
    };
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let roots = anchors(std::slice::from_ref(signing));
    EndEntityCert::try_from(leaf).is_ok_and(|leaf| {
        let usage = KeyUsage::client_auth();
        leaf.verify_for_usage(algorithms.all, &roots, intermediates, UnixTime::now(), usage, None, None).is_ok()
    })
}
