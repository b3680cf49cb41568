//! Reads names out of a peer's certificate: SPIFFE id, other subject alternative names, workload labels.

use tulle_core::{PeerIdentity, SpiffeId, Str};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_DN_QUALIFIER, OID_X509_ORGANIZATIONAL_UNIT};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::x509::X509Name;

/// The names in a certificate, as far as the mesh looks at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    pub ips: Vec<std::net::IpAddr>,
    pub emails: Vec<String>,
    /// CN, OU and dnQualifier of the subject: workload, app and version labels.
    pub workload: Option<String>,
    pub app: Option<String>,
    pub version: Option<String>,
}

/// Why a certificate is no mesh identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("not a readable X.509 certificate")]
    Unreadable,
    #[error("a name holds a NUL or another control character")]
    ControlCharacter,
    #[error("{0} URI names where a SPIFFE identity has exactly one")]
    UriCount(usize),
    #[error("{0:?} is not a SPIFFE identity of the mesh's form: {1}")]
    Spiffe(String, tulle_core::identity::SpiffeError),
}

/// The names in the DER certificate `leaf`.
///
/// # Errors
/// [`NameError::Unreadable`] when it is not X.509 or its extensions are malformed or repeated;
/// [`NameError::ControlCharacter`] when a name is made to deceive.
pub fn names(leaf: &[u8]) -> Result<PeerNames, NameError> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| NameError::Unreadable)?;
    if !rest.is_empty() {
        return Err(NameError::Unreadable);
    }
    let mut found = PeerNames {
        workload: attribute(certificate.subject(), &OID_X509_COMMON_NAME),
        app: attribute(certificate.subject(), &OID_X509_ORGANIZATIONAL_UNIT),
        version: attribute(certificate.subject(), &OID_X509_DN_QUALIFIER),
        ..PeerNames::default()
    };
    let alternatives = certificate.subject_alternative_name().map_err(|_| NameError::Unreadable)?;
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::URI(uri) => found.uris.push(clean(uri)?),
            GeneralName::DNSName(dns) => found.dns.push(clean(dns)?),
            GeneralName::RFC822Name(email) => found.emails.push(clean(email)?),
            GeneralName::IPAddress(bytes) => found.ips.extend(address(bytes)),
            _ => {}
        }
    }
    Ok(found)
}

/// A NUL is how one name is made to look like another; no honest name has control characters.
fn clean(name: &str) -> Result<String, NameError> {
    if name.chars().any(char::is_control) { Err(NameError::ControlCharacter) } else { Ok(name.to_owned()) }
}

fn attribute(subject: &X509Name<'_>, oid: &x509_parser::der_parser::asn1_rs::Oid<'_>) -> Option<String> {
    let value = subject.iter_by_oid(oid).next()?.as_str().ok()?;
    // These become labels and log fields: what could break a line is left out.
    (!value.is_empty() && !value.chars().any(char::is_control)).then(|| value.to_owned())
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
        _ => None,
    }
}

impl PeerNames {
    /// The one SPIFFE id in the certificate (X509-SVID §2: exactly one URI SAN).
    ///
    /// # Errors
    /// When there is none, more than one, or it is not of the mesh's form.
    pub fn spiffe(&self) -> Result<SpiffeId, NameError> {
        match &self.uris[..] {
            [uri] => uri.parse().map_err(|why| NameError::Spiffe(uri.clone(), why)),
            uris => Err(NameError::UriCount(uris.len())),
        }
    }
}

/// The serial number of `leaf`, big-endian; empty where it is not readable.
pub fn serial(leaf: &[u8]) -> Vec<u8> {
    X509Certificate::from_der(leaf).map(|(_, certificate)| certificate.raw_serial().to_vec()).unwrap_or_default()
}

/// The subject of `leaf` as RFC 2253 writes it: last name first, joined by commas. Empty where it is not readable.
pub fn subject(leaf: &[u8]) -> String {
    X509Certificate::from_der(leaf).map(|(_, certificate)| rfc_2253(certificate.subject())).unwrap_or_default()
}

/// The issuer of `leaf` in the same form.
pub fn issuer(leaf: &[u8]) -> String {
    X509Certificate::from_der(leaf).map(|(_, certificate)| rfc_2253(certificate.issuer())).unwrap_or_default()
}

fn rfc_2253(name: &X509Name<'_>) -> String {
    let registry = x509_parser::objects::oid_registry();
    let mut parts: Vec<String> = name
        .iter_attributes()
        .filter_map(|attribute| {
            let kind = x509_parser::objects::oid2abbrev(attribute.attr_type(), registry).ok()?;
            let value = attribute.as_str().ok()?;
            let escaped: String = value.chars().flat_map(escape).collect();
            Some(format!("{kind}={escaped}"))
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// RFC 2253 §2.4, as far as one character goes.
fn escape(c: char) -> impl Iterator<Item = char> {
    let special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
    special.then_some('\\').into_iter().chain((!c.is_control()).then_some(c))
}

/// What telemetry and authorization know of the peer that presented `leaf`; empty where it says nothing readable.
pub fn identity(leaf: &[u8]) -> PeerIdentity {
    let found = names(leaf).unwrap_or_default();
    let text = |value: Option<String>| value.map(Str::from);
    PeerIdentity {
        spiffe: found.spiffe().ok(),
        workload: text(found.workload),
        app: text(found.app),
        version: text(found.version),
    }
}
