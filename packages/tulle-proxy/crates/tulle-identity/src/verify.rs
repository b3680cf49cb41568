//! Verifies a peer's chain and names, the same way for servers and clients (RFC 5280 by webpki; SPIFFE X509-SVID by us).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use tulle_config::tls::{Pins, SanKind, SanMatcher};
use tulle_core::Str;
use tulle_policy::StringTest;
use webpki::{EndEntityCert, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::bundle::Revocations;
use crate::clock;
use crate::peer::{self, PeerNames};

/// What a peer must show.
#[derive(Debug)]
pub struct Requirements {
    pub roots: Vec<TrustAnchor<'static>>,
    /// Nobody whose certificate is in these lists gets in.
    pub revoked: Arc<Revocations>,
    /// Set whenever the mesh's roots are used.
    pub spiffe: Spiffe,
    /// Any one must match; empty takes every name.
    pub sans: Vec<SanMatcher>,
    pub pins: Pins,
    /// Servers only: the certificate must be valid for the name that was asked for.
    pub server_name: CheckServerName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spiffe {
    /// The peer must have exactly one URI SAN, a SPIFFE id of the mesh's form, in this trust domain: a root that signs
    /// for several domains must not let one speak in another's name.
    /// Members of the other trust domains listed may show a chain to that domain's own roots.
    In(Str, Vec<(Str, Vec<TrustAnchor<'static>>)>),
    NotRequired,
}

/// A SPIFFE id of another trust domain.
#[derive(Debug, thiserror::Error)]
#[error("the peer's trust domain is {found:?}, not {expected:?}")]
struct ForeignTrustDomain {
    found: Str,
    expected: Str,
}

/// Another certificate, and another key, than those that were configured.
#[derive(Debug, thiserror::Error)]
#[error("the peer's certificate is none of those that were configured")]
struct NotPinned;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckServerName {
    Yes,
    No,
}

fn refused(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(why))))
}

/// A certificate whose names fit nothing that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("none of the peer's names {found:?} is one that was configured")]
struct NoNameMatches {
    found: Vec<String>,
}

impl Requirements {
    /// The roots that may vouch for a peer with these names: those of its own trust domain and no other's.
    fn roots_for(&self, names: Option<&PeerNames>) -> &[TrustAnchor<'static>] {
        let Spiffe::In(own, others) = &self.spiffe else { return &self.roots };
        let found = names.and_then(|names| names.spiffe().ok()).map(|name| name.trust_domain);
        let other = others.iter().find(|(domain, _)| domain != own && Some(domain) == found.as_ref());
        other.map_or(&self.roots, |(_, roots)| roots)
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let certificate = EndEntityCert::try_from(leaf).map_err(pki_error)?;
        let lists = self.revoked.lists();
        // Lists come by push, for roots that have something to revoke, and do not expire.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            let builder = builder.with_depth(RevocationCheckDepth::EndEntity);
            builder.with_status_policy(UnknownStatusPolicy::Allow).build()
        });
        let names = peer::names(leaf);
        let roots = self.roots_for(names.as_ref().ok());
        let verify = |time| {
            certificate.verify_for_usage(algorithms.all, roots, intermediates, time, usage, revocation, None).map(drop)
        };
        let mut verified = Ok(());
        for time in clock::times(now) {
            verified = verify(time);
            use webpki::Error::{CertExpired, CertNotValidYet};
            if !matches!(verified, Err(CertExpired { .. } | CertNotValidYet { .. })) {
                break;
            }
        }
        verified.map_err(pki_error)?;
        let names = names.map_err(refused)?;
        if let Spiffe::In(expected, others) = &self.spiffe {
            let found = names.spiffe().map_err(refused)?.trust_domain;
            if found != *expected && !others.iter().any(|(other, _)| *other == found) {
                return Err(refused(ForeignTrustDomain { found, expected: expected.clone() }));
            }
        }
        if !self.pins.is_empty() && !pinned(&self.pins, leaf) {
            return Err(refused(NotPinned));
        }
        if self.sans.is_empty() || self.sans.iter().any(|matcher| matches(matcher, &names)) {
            return Ok(());
        }
        let found = names.uris.into_iter().chain(names.dns).collect();
        Err(refused(NoNameMatches { found }))
    }
}

fn pinned(pins: &Pins, leaf: &CertificateDer<'_>) -> bool {
    let own = digest(&SHA256, leaf);
    if pins.certificates.iter().any(|pin| own.as_ref() == pin) {
        return true;
    }
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
    let key = STANDARD.encode(digest(&SHA256, certificate.public_key().raw));
    pins.keys.iter().any(|pin| **pin == *key)
}

fn matches(matcher: &SanMatcher, names: &PeerNames) -> bool {
    let any = |values: &[String]| values.iter().any(|value| matcher.value.matches(value.as_bytes()));
    let dns = || names.dns.iter().any(|name| dns_matches(matcher, name));
    let ip = || names.ips.iter().any(|ip| matcher.value.matches(ip.to_string().as_bytes()));
    match matcher.kind {
        SanKind::Uri => any(&names.uris),
        SanKind::Dns => dns(),
        SanKind::Email => any(&names.emails),
        SanKind::Ip => ip(),
        SanKind::Any => any(&names.uris) || dns() || any(&names.emails) || ip(),
    }
}

/// An exact matcher also fits a wildcard name that covers it (RFC 6125 §6.4.3: the leftmost label, whole).
fn dns_matches(matcher: &SanMatcher, name: &str) -> bool {
    if let (StringTest::Exact(wanted), Some(suffix)) = (&matcher.value.test, name.strip_prefix("*."))
        && let Some((label, rest)) = wanted.split_once('.')
    {
        return !label.is_empty() && rest.eq_ignore_ascii_case(suffix);
    }
    matcher.value.matches(name.as_bytes())
}

/// webpki's reasons in rustls's words, so that the right TLS alert is sent.
fn pki_error(error: webpki::Error) -> Error {
    use CertificateError as Reason;
    match error {
        webpki::Error::CertRevoked => Error::InvalidCertificate(Reason::Revoked),
        webpki::Error::CertExpired { .. } => Error::InvalidCertificate(Reason::Expired),
        webpki::Error::CertNotValidYet { .. } => Error::InvalidCertificate(Reason::NotValidYet),
        webpki::Error::UnknownIssuer => Error::InvalidCertificate(Reason::UnknownIssuer),
        webpki::Error::InvalidSignatureForPublicKey => Error::InvalidCertificate(Reason::BadSignature),
        webpki::Error::BadDer | webpki::Error::TrailingData(_) => Error::InvalidCertificate(Reason::BadEncoding),
        other => refused(other),
    }
}

/// Checks servers that this process dials, and clients that dial it.
#[derive(Debug)]
pub struct PeerVerifier {
    pub requirements: Requirements,
    pub algorithms: WebPkiSupportedAlgorithms,
    /// Whether clients must show a certificate at all.
    pub mandatory: bool,
}

impl PeerVerifier {
    fn tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.requirements.check(leaf, intermediates, now, KeyUsage::server_auth(), &self.algorithms)?;
        if self.requirements.server_name == CheckServerName::Yes {
            let certificate = EndEntityCert::try_from(leaf).map_err(pki_error)?;
            certificate.verify_is_valid_for_subject_name(server_name).map_err(pki_error)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    /// None are named: a list of roots tells strangers who runs this mesh and helps nobody.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.requirements.check(leaf, intermediates, now, KeyUsage::client_auth(), &self.algorithms)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Takes any server certificate: for clusters configured without validation, which Envoy allows and the decoder warns
/// about. The handshake's signature is still checked.
#[derive(Debug)]
pub struct Unverified(pub WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Anchors from DER certificates; those that cannot be read are left out, and none at all is an error of the caller's.
pub fn anchors(roots: &[CertificateDer<'static>]) -> Vec<TrustAnchor<'static>> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    store.roots
}

#[cfg(test)]
mod chains;

#[cfg(test)]
mod tests {
    use tulle_policy::StringMatcher;

    use super::*;

    #[test]
    fn a_matcher_sees_names_of_its_kind_only() {
        let names = PeerNames {
            uris: vec!["spiffe://cluster.local/ns/default/sa/backend".to_owned()],
            dns: vec!["api.example.com".to_owned(), "*.wild.example".to_owned()],
            ips: vec![[127, 0, 0, 1].into()],
            ..PeerNames::default()
        };
        let cases = [
            (SanKind::Uri, "spiffe://cluster.local/ns/default/sa/backend", true),
            (SanKind::Uri, "spiffe://cluster.local/ns/default/sa/backen", false),
            (SanKind::Dns, "spiffe://cluster.local/ns/default/sa/backend", false),
            (SanKind::Any, "spiffe://cluster.local/ns/default/sa/backend", true),
            (SanKind::Dns, "api.example.com", true),
            (SanKind::Dns, "a.wild.example", true),
            (SanKind::Dns, "a.b.wild.example", false),
            (SanKind::Dns, "wild.example", false),
            (SanKind::Uri, "api.example.com", false),
            (SanKind::Ip, "127.0.0.1", true),
        ];
        for (kind, value, expected) in cases {
            let matcher = SanMatcher { kind, value: StringMatcher::exact(value) };
            assert_eq!(matches(&matcher, &names), expected, "{kind:?} {value}");
        }
    }
    #[test]
    fn one_of_the_digests_is_enough() {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let leaf = made.cert.der();
        let whole: [u8; 32] = digest(&SHA256, leaf).as_ref().try_into().unwrap();
        let key = STANDARD.encode(digest(&SHA256, &rcgen::PublicKeyData::subject_public_key_info(&made.signing_key)));
        let pins = |certificates: &[[u8; 32]], keys: &[&str]| Pins {
            certificates: certificates.to_vec(),
            keys: keys.iter().map(|key| (*key).into()).collect(),
        };
        assert!(pinned(&pins(&[[0; 32], whole], &[]), leaf));
        assert!(pinned(&pins(&[[0; 32]], &["AAAA", &key]), leaf));
        assert!(!pinned(&pins(&[[0; 32]], &["AAAA"]), leaf));
    }
}
