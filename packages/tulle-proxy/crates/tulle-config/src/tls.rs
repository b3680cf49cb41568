//! TLS settings of filter chains and clusters, by reference to secrets or with the material inline.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tulle_core::Str;

use crate::source::Source;

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq)]
pub struct DownstreamTls {
    pub common: CommonTls,
    pub client_cert: ClientCert,
    /// Stateless session tickets may be issued.
    pub session_tickets: bool,
    pub require_sni: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// Never asked for.
    #[default]
    Ignored,
    /// Asked for and checked when given.
    Optional,
    /// The handshake fails without a valid one.
    Required,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    pub common: CommonTls,
    pub sni: Option<Str>,
    /// SNI from the endpoint's hostname when it has one.
    pub auto_host_sni: bool,
    /// The server's DNS SAN must equal the SNI sent.
    pub auto_sni_san_validation: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CommonTls {
    pub min: TlsVersion,
    pub max: TlsVersion,
    /// In order of preference; empty: the library's own choice.
    pub groups: Vec<KeyExchange>,
    /// Those of TLS 1.2, in order of preference; empty: the library's own choice.
    pub suites: Vec<CipherSuite>,
    /// In order of preference.
    pub alpn: Vec<Arc<[u8]>>,
    /// Zero or more; the first one is used by clients.
    pub certificates: Vec<CertificateSource>,
    pub validation: Validation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// How two ends agree on a key. The first is a hybrid that a quantum computer does not break either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchange {
    X25519MlKem768,
    X25519,
    P256,
    P384,
}

/// The suites of TLS 1.2 that are safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherSuite {
    EcdsaAes128,
    EcdsaAes256,
    EcdsaChaCha20,
    RsaAes128,
    RsaAes256,
    RsaChaCha20,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CertificateSource {
    Inline(Arc<TlsCertificate>),
    Secret(SecretRef),
}

/// A secret by its key and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretRef {
    pub name: Str,
    pub origin: SecretOrigin,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretOrigin {
    /// `Config::secrets`, filled from there.
    Discovered(Source),
    /// This process's own identity (`default`: certificate and key; `ROOTCA`: the mesh's trust bundle).
    Identity,
    /// `Config::secrets`, filled from the bootstrap.
    Static,
}

/// How the peer is verified. Nothing set (`trust` None and no matchers) means the peer is not verified, which Envoy
/// allows for clusters and which the decoder reports as a warning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validation {
    pub trust: Option<TrustSource>,
    /// Any one must match. Empty: every name is taken.
    pub sans: Vec<SanMatcher>,
    pub pins: Pins,
}

/// Digests (SHA-256) of which a peer's certificate must have one; with none every certificate is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Of the whole certificate.
    pub certificates: Vec<[u8; 32]>,
    /// Of its public key's information, in base64.
    pub keys: Vec<Str>,
}

impl Pins {
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.keys.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum TrustSource {
    Inline(DataSource),
    Secret(SecretRef),
    /// The platform's root store.
    System,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SanMatcher {
    pub kind: SanKind,
    pub value: tulle_policy::StringMatcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    /// Any kind: the deprecated untyped matcher.
    Any,
    Dns,
    Uri,
    Ip,
    Email,
}

/// What a secret holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Secret {
    Certificate(Arc<TlsCertificate>),
    Validation(Arc<Validation>),
}

/// A certificate chain with its private key, PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsCertificate {
    pub chain: DataSource,
    pub key: DataSource,
}

/// Bytes, or where to read them. `Debug` never shows inline bytes: they may be a private key.
#[derive(Clone, PartialEq, Eq)]
pub enum DataSource {
    Inline(Arc<[u8]>),
    File(Arc<Path>),
    Environment(Str),
}

impl fmt::Debug for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataSource::Inline(bytes) => write!(f, "Inline([{} bytes redacted])", bytes.len()),
            DataSource::File(path) => write!(f, "File({})", path.display()),
            DataSource::Environment(name) => write!(f, "Environment({name})"),
        }
    }
}
