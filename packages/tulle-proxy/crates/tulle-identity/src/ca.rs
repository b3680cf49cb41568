//! Asks the certificate authority for a certificate: Istio's `IstioCertificateService.CreateCertificate`.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// A request that takes longer is given up and tried again later.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// How soon a half-open connection is noticed.
const PING: std::time::Duration = std::time::Duration::from_secs(5);

/// Field numbers of `istio/security/ca.proto`; `metadata` (4) is not sent.
#[derive(Clone, PartialEq, prost::Message)]
struct CertificateRequest {
    #[prost(string, tag = "1")]
    csr: String,
    #[prost(int64, tag = "3")]
    validity_duration: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CertificateResponse {
    #[prost(string, repeated, tag = "1")]
    cert_chain: Vec<String>,
}

/// Where the authority is and how it is recognised.
#[derive(Clone, Debug)]
pub struct Authority {
    /// host:port.
    pub address: String,
    /// DNS name that its certificate must be valid for.
    pub server_name: String,
    /// PEM roots that its certificate must end in.
    pub trust_anchors: String,
}

/// How the request shows who asks.
pub enum Proof {
    /// A one-time join token.
    Token(String),
    /// The current certificate chain and its key, PEM.
    Certificate { chain: String, key: String },
}

/// Why no certificate came back.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("cannot reach the certificate authority at {0}: {reason}", reason = root_cause(.1))]
    Connect(String, tonic::transport::Error),
    #[error("the certificate authority refused: {}", .0.message())]
    Refused(#[from] tonic::Status),
    #[error("the certificate authority's answer is unusable: {0}")]
    Answer(&'static str),
    #[error("the join token cannot be sent: {0}")]
    Token(#[from] tonic::metadata::errors::InvalidMetadataValue),
}

/// tonic's own message is only "transport error": what happened is at the end of its chain of causes.
fn root_cause(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// What the authority signed. PEM text; public.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Issued {
    /// Leaf first, without the roots.
    pub chain: String,
    /// The trust bundle: the last certificate of the answer and any others that are self-signed.
    pub roots: String,
}

/// Sends `csr` (PEM) and returns what was issued.
///
/// # Errors
/// [`CaError`]; trying again later may help except where the authority refused a token.
pub async fn create_certificate(authority: &Authority, proof: Proof, csr: String) -> Result<Issued, CaError> {
    let mut request = tonic::Request::new(CertificateRequest { csr, validity_duration: 0 });
    request.set_timeout(TIMEOUT);
    if let Proof::Token(token) = &proof {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    let channel = connect(authority, proof).await.map_err(|e| CaError::Connect(authority.address.clone(), e))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|e| CaError::Connect(authority.address.clone(), e))?;
    let codec = tonic_prost::ProstCodec::<CertificateRequest, CertificateResponse>::default();
    let path = http::uri::PathAndQuery::from_static(METHOD);
    let answer = client.unary(request, path, codec).await?.into_inner();
    split(&answer.cert_chain)
}

pub(crate) async fn connect(authority: &Authority, proof: Proof) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&authority.trust_anchors))
        .domain_name(&authority.server_name);
    if let Proof::Certificate { chain, key } = proof {
        tls = tls.identity(tonic::transport::Identity::from_pem(chain, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", authority.address))?;
    let endpoint = endpoint.tls_config(tls)?.connect_timeout(TIMEOUT);
    endpoint.http2_keep_alive_interval(PING).keep_alive_timeout(PING).keep_alive_while_idle(true).connect().await
}

/// The chain to present and the roots to trust, from an answer that has the leaf first and roots last.
fn split(answer: &[String]) -> Result<Issued, CaError> {
    let [leaf, rest @ ..] = answer else { return Err(CaError::Answer("it holds no certificate")) };
    if rest.is_empty() {
        return Err(CaError::Answer("it holds no root"));
    }
    let mut issued = Issued { chain: normalized(leaf), roots: String::new() };
    for (position, pem) in rest.iter().enumerate() {
        let last = position + 1 == rest.len();
        let target = if last || self_signed(pem) { &mut issued.roots } else { &mut issued.chain };
        target.push_str(&normalized(pem));
    }
    Ok(issued)
}

fn normalized(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

fn self_signed(pem: &str) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return false };
    X509Certificate::from_der(&der).is_ok_and(|(_, cert)| cert.subject().as_raw() == cert.issuer().as_raw())
}
