//! The stream on which the authority pushes the trust bundle: SDS (`envoy.service.secret.v3`), secret `ROOTCA`.
//!
//! The stream is the holder's: it is opened with the identity held, and its acknowledgements tell the authority what
//! that holder trusts, which a rotation of the root waits for.

use envoy_types::pb::envoy::config::core::v3::{DataSource, Node, TypedExtensionConfig, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, SpiffeCertValidatorConfig, secret::Type};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::bundle::Bundle;
use crate::ca::{Authority, CaError, Proof, connect};

const ROOTS: &str = "ROOTCA";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// gRPC's INVALID_ARGUMENT.
const REFUSED: i32 = 3;

/// One stream.
pub struct TrustStream {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

/// A bundle as pushed; `nonce` is to be acknowledged or refused.
pub struct Pushed {
    pub bundle: Bundle,
    pub nonce: String,
}

impl TrustStream {
    /// Opens a stream with the certificate that `proof` shows; `holder` names it in the authority's status.
    ///
    /// # Errors
    /// When the authority cannot be reached or refuses, as it does those who were revoked.
    pub async fn open(authority: &Authority, proof: Proof, holder: String) -> Result<TrustStream, CaError> {
        let channel = connect(authority, proof).await.map_err(|e| CaError::Connect(authority.address.clone(), e))?;
        let (requests, receiver) = mpsc::unbounded_channel();
        let first = DeltaDiscoveryRequest {
            node: Some(Node { id: holder, user_agent_name: "tulle-proxy".to_owned(), ..Node::default() }),
            type_url: SECRET.to_owned(),
            resource_names_subscribe: vec![ROOTS.to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        let stream = TrustStream { responses: open(channel, receiver, &requests, first).await?, requests };
        Ok(stream)
    }

    /// The next bundle.
    ///
    /// # Errors
    /// When the stream ends, or carries something else.
    pub async fn next(&mut self) -> Result<Pushed, CaError> {
        loop {
            let response = self.responses.message().await?.ok_or(CaError::Answer("the stream of roots has ended"))?;
            let Some(resource) = response.resources.into_iter().find(|resource| resource.name == ROOTS) else {
                self.answer(response.nonce, None);
                continue;
            };
            let body = resource.resource.ok_or(CaError::Answer("a secret has no body"))?;
            let secret = Secret::decode(&*body.value).map_err(|_| CaError::Answer("a secret cannot be read"))?;
            let Some(Type::ValidationContext(context)) = secret.r#type else {
                return Err(CaError::Answer("the secret is no validation context"));
            };
            let federated = federated(context.custom_validator_config)?;
            let bundle = Bundle { roots: text(context.trusted_ca)?, lists: text(context.crl)?, federated };
            return Ok(Pushed { bundle, nonce: response.nonce });
        }
    }

    /// Tells the authority that the push is in force, or why it is not. An authority that is gone hears nothing.
    pub fn answer(&self, nonce: String, refused: Option<String>) {
        let error_detail = refused.map(|message| Status { code: REFUSED, message, details: Vec::new() });
        let request = DeltaDiscoveryRequest {
            type_url: SECRET.to_owned(),
            response_nonce: nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        // The receiver is gone only with the stream, whose end `next` reports.
        drop(self.requests.send(request));
    }
}

async fn open(
    channel: tonic::transport::Channel,
    receiver: mpsc::UnboundedReceiver<DeltaDiscoveryRequest>,
    requests: &mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    first: DeltaDiscoveryRequest,
) -> Result<Streaming<DeltaDiscoveryResponse>, CaError> {
    drop(requests.send(first));
    let answer = SecretDiscoveryServiceClient::new(channel).delta_secrets(Requests(receiver)).await?;
    Ok(answer.into_inner())
}

/// The other trust domains of Envoy's SPIFFE validator, which the authority adds when the mesh is federated.
fn federated(extension: Option<TypedExtensionConfig>) -> Result<Vec<(String, String)>, CaError> {
    let Some(config) = extension.and_then(|extension| extension.typed_config) else { return Ok(Vec::new()) };
    if !config.type_url.ends_with("SPIFFECertValidatorConfig") {
        return Err(CaError::Answer("its validator is unknown"));
    }
    let decoded = SpiffeCertValidatorConfig::decode(&*config.value);
    let decoded = decoded.map_err(|_| CaError::Answer("its trust domains cannot be read"))?;
    decoded.trust_domains.into_iter().map(|each| Ok((each.name, text(each.trust_bundle)?))).collect()
}

fn text(source: Option<DataSource>) -> Result<String, CaError> {
    match source.and_then(|source| source.specifier) {
        None => Ok(String::new()),
        Some(Specifier::InlineString(text)) => Ok(text),
        Some(Specifier::InlineBytes(bytes)) => {
            String::from_utf8(bytes).map_err(|_| CaError::Answer("a secret is no text"))
        }
        Some(_) => Err(CaError::Answer("a secret is not inline")),
    }
}

/// The outgoing half of the stream.
struct Requests(mpsc::UnboundedReceiver<DeltaDiscoveryRequest>);

impl futures_core::Stream for Requests {
    type Item = DeltaDiscoveryRequest;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<DeltaDiscoveryRequest>> {
        self.0.poll_recv(context)
    }
}
