//! What `/certs` shows of a certificate.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::peer::{self, NameError};

/// Public facts about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateDetails {
    /// Hexadecimal, lower case, without separators.
    pub serial_number: String,
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

/// Reads a DER certificate.
///
/// # Errors
/// When it is not readable X.509.
pub fn details(certificate: &[u8]) -> Result<CertificateDetails, NameError> {
    let names = peer::names(certificate)?;
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| NameError::Unreadable)?;
    Ok(CertificateDetails {
        serial_number: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        uris: names.uris,
        dns: names.dns,
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}
