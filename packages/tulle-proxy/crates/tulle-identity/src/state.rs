//! The last identity on disk, so that a restarted proxy needs neither a new token nor its control plane.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::bundle::Revocations;
use crate::ca::Issued;
use crate::material::Identity;

/// An identity with its key, in PEM. `Debug` shows no key.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Credential {
    pub issued: Issued,
    /// Revocation lists in PEM, as last pushed; empty when nothing was revoked.
    pub revoked: String,
    /// Other trust domains and their roots in PEM, as last pushed.
    #[serde(default)]
    pub federated: Vec<(String, String)>,
    pub key: String,
    /// When it was issued, in seconds since 1970: certificates start earlier, for peers whose clock is behind.
    pub obtained: i64,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Credential({:?}, key redacted)", self.issued)
    }
}

/// Why a stored or received identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0} is open to others (mode {1:o}); it holds what is secret and must be 0600")]
    Exposed(PathBuf, u32),
    #[error("the identity is damaged: no {0} in it")]
    Damaged(&'static str),
}

const FILE: &str = "identity.json";

/// Reads the identity kept in `directory`; `None` when there is none yet.
///
/// # Errors
/// When it cannot be read, or others could have read the key.
pub fn load(directory: &Path) -> Result<Option<Credential>, StateError> {
    let Some(text) = read_private(&directory.join(FILE))? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|_| StateError::Damaged("readable content"))
}

/// Reads a file that only its owner may read; `None` when there is none.
pub(crate) fn read_private(file: &Path) -> Result<Option<Vec<u8>>, StateError> {
    let mode = match fs::metadata(file) {
        Ok(metadata) => metadata.permissions().mode() & 0o777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StateError::Io(file.to_owned(), error)),
    };
    if mode & 0o077 != 0 {
        return Err(StateError::Exposed(file.to_owned(), mode));
    }
    fs::read(file).map(Some).map_err(|error| StateError::Io(file.to_owned(), error))
}

/// Keeps `credential` in `directory` (made with mode 0700). All of it is one file, replaced atomically: a crash leaves
/// the identity before or this one, and never a key without its certificate, for which a new token would be needed.
///
/// # Errors
/// Those of the file system.
pub fn save(directory: &Path, credential: &Credential) -> Result<(), StateError> {
    make_private(directory)?;
    let text = serde_json::to_vec(credential).map_err(|error| StateError::Io(directory.join(FILE), error.into()))?;
    write(directory, FILE, &text)
}

/// Makes a directory (mode 0700) unless it is there.
pub(crate) fn make_private(directory: &Path) -> Result<(), StateError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| StateError::Io(directory.to_owned(), error))
}

/// Replaces a file (mode 0600) atomically.
pub(crate) fn write(directory: &Path, name: &str, content: &[u8]) -> Result<(), StateError> {
    let (path, fresh) = (directory.join(name), directory.join(format!(".{name}.new")));
    // What a crash left is not written into: its mode would be kept.
    drop(fs::remove_file(&fresh));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&fresh, &path));
    written.map_err(|error| StateError::Io(path, error))
}

/// From when a certificate was to be used, and when it ends to be valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: i64,
    pub until: i64,
}

impl Credential {
    /// The parsed identity and its leaf's validity.
    ///
    /// # Errors
    /// [`StateError::Damaged`] when a part is missing or unreadable.
    pub fn parse(&self) -> Result<(Identity, Validity), StateError> {
        let chain = certificates(&self.issued.chain).ok_or(StateError::Damaged("certificate"))?;
        let roots = certificates(&self.issued.roots).ok_or(StateError::Damaged("root"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| StateError::Damaged("private key"))?;
        let (_, leaf) =
            X509Certificate::from_der(&chain[0]).map_err(|_| StateError::Damaged("readable certificate"))?;
        let from = leaf.validity().not_before.timestamp().max(self.obtained);
        let validity = Validity { from, until: leaf.validity().not_after.timestamp() };
        let revoked = Revocations::parse(&self.revoked).map_err(|_| StateError::Damaged("revocation list"))?;
        let mut federated = Vec::with_capacity(self.federated.len());
        for (domain, pem) in &self.federated {
            let roots = certificates(pem).ok_or(StateError::Damaged("root of another trust domain"))?;
            federated.push((domain.as_str().into(), roots));
        }
        Ok((Identity { chain, key, roots, federated, revoked: Arc::new(revoked) }, validity))
    }
}

fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|found| !found.is_empty())
}
