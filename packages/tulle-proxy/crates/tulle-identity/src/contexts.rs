//! Makes rustls configurations from TLS settings. Callers cache them and ask again when the generation moves.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use tulle_config::store::Resources;
use tulle_config::tls::{
    CipherSuite, ClientCert, CommonTls, KeyExchange, Pins, SanMatcher, SecretOrigin, SecretRef, TlsVersion, TrustSource,
};
use tulle_config::{DownstreamTls, Secret, UpstreamTls};

use crate::choice::Choice;
use crate::material::{IdentityCell, MaterialError, Sources, Trust};
use crate::verify::{CheckServerName, PeerVerifier, Requirements, Spiffe, Unverified, anchors};

/// What says which name a server's certificate must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    BySettings,
    ByRequest,
}

/// Makes TLS configurations for the whole process.
///
/// Sessions are not resumed: connections between sidecars live long, and a full handshake checks the peer's identity
/// against today's roots every time.
#[derive(Debug)]
pub struct TlsContexts {
    identity: Arc<IdentityCell>,
    provider: Arc<CryptoProvider>,
}

impl TlsContexts {
    pub fn new(identity: Arc<IdentityCell>) -> Self {
        TlsContexts { identity, provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()) }
    }

    /// Grows whenever configurations made earlier hold an outdated identity.
    pub fn generation(&self) -> u64 {
        self.identity.generation()
    }

    /// Whether the peer that presented the certificate with this serial number was revoked meanwhile.
    pub fn is_revoked(&self, serial: &[u8]) -> bool {
        self.identity.get().is_some_and(|identity| identity.revoked.holds(serial))
    }

    /// The certificate that `settings` present; `None` where there is none.
    pub fn own(&self, settings: &CommonTls, secrets: &Resources<Secret>) -> Option<CertificateDer<'static>> {
        let sources = Sources { identity: &self.identity, secrets };
        let (chain, _) = sources.certificate(settings.certificates.first()?).ok()?;
        chain.into_iter().next()
    }

    /// The configuration for accepting connections with `settings`.
    ///
    /// # Errors
    /// When material is missing or unusable; the connection must then be refused.
    pub fn server(
        &self,
        settings: &DownstreamTls,
        secrets: &Resources<Secret>,
    ) -> Result<Arc<ServerConfig>, MaterialError> {
        let sources = Sources { identity: &self.identity, secrets };
        let builder = ServerConfig::builder_with_provider(self.provider(&settings.common))
            .with_protocol_versions(versions(&settings.common))?;
        let builder = match (settings.client_cert, sources.trust(&settings.common.validation)?) {
            (ClientCert::Ignored, _) => builder.with_no_client_auth(),
            (wanted, Some(trust)) => {
                let mandatory = wanted == ClientCert::Required;
                let shown = sources.shown(&settings.common.validation);
                let requirements = requirements(&trust, shown, CheckServerName::No);
                builder.with_client_cert_verifier(self.verifier(requirements, mandatory))
            }
            // Asking for a certificate that nothing could verify: nobody may pass.
            (_, None) => return Err(MaterialError::SecretMissing("a validation context".into())),
        };
        let certificates = settings.common.certificates.iter().map(|source| sources.certificate(source));
        let mut certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let first = certificates.pop().ok_or_else(|| MaterialError::SecretMissing("a server certificate".into()))?;
        let mut config = if certificates.is_empty() {
            builder.with_single_cert(first.0, first.1)?
        } else {
            certificates.push(first);
            let choice = Choice::new(certificates, builder.crypto_provider())?;
            builder.with_cert_resolver(Arc::new(choice))
        };
        config.alpn_protocols = settings.common.alpn.iter().map(|name| name.to_vec()).collect();
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// The configuration for dialing with `settings`. `alpn` is offered instead of the settings' own list, when not
    /// empty; a server that is named by a request has to have that name.
    ///
    /// # Errors
    /// When material is missing or unusable; the connection must then not be made.
    pub fn client(
        &self,
        settings: &UpstreamTls,
        (alpn, named): (&[&[u8]], Named),
        secrets: &Resources<Secret>,
    ) -> Result<Arc<ClientConfig>, MaterialError> {
        let sources = Sources { identity: &self.identity, secrets };
        let builder = ClientConfig::builder_with_provider(self.provider(&settings.common))
            .with_protocol_versions(versions(&settings.common))?
            .dangerous();
        let builder = match sources.trust(&settings.common.validation)? {
            None => builder.with_custom_certificate_verifier(Arc::new(Unverified(self.algorithms()))),
            Some(trust) => {
                let wanted = settings.auto_sni_san_validation || named == Named::ByRequest;
                let check = if wanted { CheckServerName::Yes } else { CheckServerName::No };
                let requirements = requirements(&trust, sources.shown(&settings.common.validation), check);
                builder.with_custom_certificate_verifier(self.verifier(requirements, true))
            }
        };
        let mut config = match settings.common.certificates.first() {
            None => builder.with_no_client_auth(),
            Some(source) => {
                let (chain, key) = sources.certificate(source)?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        config.alpn_protocols = match alpn {
            [] => settings.common.alpn.iter().map(|name| name.to_vec()).collect(),
            chosen => chosen.iter().map(|name| name.to_vec()).collect(),
        };
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }

    /// The provider, with the key exchanges and the suites that the settings ask for.
    fn provider(&self, common: &CommonTls) -> Arc<CryptoProvider> {
        if common.groups.is_empty() && common.suites.is_empty() {
            return self.provider.clone();
        }
        let mut provider = (*self.provider).clone();
        if !common.groups.is_empty() {
            provider.kx_groups = common.groups.iter().map(|group| key_exchange(*group)).collect();
        }
        if !common.suites.is_empty() {
            // Those of TLS 1.3 cannot be chosen, as in Envoy.
            provider.cipher_suites.retain(|suite| suite.tls13().is_some());
            provider.cipher_suites.extend(common.suites.iter().map(|suite| cipher_suite(*suite)));
        }
        Arc::new(provider)
    }

    fn algorithms(&self) -> WebPkiSupportedAlgorithms {
        self.provider.signature_verification_algorithms
    }

    fn verifier(&self, requirements: Requirements, mandatory: bool) -> Arc<PeerVerifier> {
        Arc::new(PeerVerifier { requirements, algorithms: self.algorithms(), mandatory })
    }
}

fn key_exchange(group: KeyExchange) -> &'static dyn SupportedKxGroup {
    match group {
        KeyExchange::X25519MlKem768 => kx_group::X25519MLKEM768,
        KeyExchange::X25519 => kx_group::X25519,
        KeyExchange::P256 => kx_group::SECP256R1,
        KeyExchange::P384 => kx_group::SECP384R1,
    }
}

fn cipher_suite(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdsaAes128 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChaCha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChaCha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn requirements(trust: &Trust, (sans, pins): (Vec<SanMatcher>, Pins), server_name: CheckServerName) -> Requirements {
    let (roots, spiffe, revoked) = match trust {
        Trust::Mesh { roots, federated, revoked, trust_domain } => {
            let others = federated.iter().map(|(domain, roots)| (domain.clone(), anchors(roots))).collect();
            (anchors(roots), Spiffe::In(trust_domain.clone(), others), revoked.clone())
        }
        Trust::Roots(roots) => (anchors(roots), Spiffe::NotRequired, Arc::default()),
        Trust::System => {
            (anchors(&rustls_native_certs::load_native_certs().certs), Spiffe::NotRequired, Arc::default())
        }
    };
    Requirements { roots, revoked, spiffe, sans, pins, server_name }
}

static ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
static ONLY_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
static BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Between members of the mesh only TLS 1.3 is spoken, whatever the settings allow.
fn versions(common: &CommonTls) -> &'static [&'static SupportedProtocolVersion] {
    let own = |reference: &SecretRef| reference.origin == SecretOrigin::Identity;
    let of_mesh = matches!(&common.validation.trust, Some(TrustSource::Secret(reference)) if own(reference));
    match (if of_mesh { TlsVersion::V1_3 } else { common.min }, common.max) {
        (TlsVersion::V1_3, _) => ONLY_13,
        (TlsVersion::V1_2, TlsVersion::V1_2) => ONLY_12,
        (TlsVersion::V1_2, TlsVersion::V1_3) => BOTH,
    }
}
