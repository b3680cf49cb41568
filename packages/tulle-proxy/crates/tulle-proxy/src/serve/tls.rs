//! The serving side of a TLS handshake, and what it tells about the peer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{Acceptor, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::{StartHandshake, TlsAcceptor};
use tulle_config::DownstreamTls;
use tulle_core::{PeerIdentity, Str};
use tulle_http::Stream;
use tulle_identity::presented::Presented;

use crate::worker::Worker;
use crate::worker::tls::{Secured, Serving, cipher, group, version};

/// Limit on a handshake where configuration sets none.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A finished handshake.
pub struct TlsFacts {
    pub identity: PeerIdentity,
    /// The peer's SPIFFE id, as text.
    pub uri_san: Option<Str>,
    /// The peer presented a certificate and it was verified.
    pub peer_verified: bool,
    /// SHA-256 of the peer's certificate, in hex.
    pub peer_hash: Str,
    /// Of the peer's certificate, big-endian; empty where there is none.
    pub peer_serial: Vec<u8>,
    /// The peer certificate's subject, as RFC 2253 writes it.
    pub subject: Str,
    /// This side's own SPIFFE id.
    pub own_uri: Option<Str>,
    pub server_name: Option<Str>,
    pub alpn: Option<Vec<u8>>,
    pub secured: Secured,
    /// What the peer sent behind its own certificate.
    pub intermediates: Box<[Rc<Presented>]>,
}

/// Accepts TLS on a socket of which `seen` has been read already. `None` when the handshake fails: the peer was told
/// by an alert, and there is nobody else to tell.
pub async fn accept(
    worker: &Rc<Worker>,
    settings: &Arc<DownstreamTls>,
    (stream, seen): (TcpStream, &[u8]),
    limit: Option<Duration>,
) -> Option<(Stream, TlsFacts)> {
    let Serving { config, own, own_uri } = worker.tls.server(settings).ok()?;
    let handshake = async {
        if seen.is_empty() {
            return TlsAcceptor::from(config).accept(stream).await.ok();
        }
        // The whole ClientHello was read to choose the filter chain: give it to rustls as read.
        let mut acceptor = Acceptor::default();
        let mut rest = seen;
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest).ok()?;
        }
        let accepted = acceptor.accept().ok()??;
        StartHandshake::from_parts(accepted, stream).into_stream(config).await.ok()
    };
    let stream = tokio::time::timeout(limit.unwrap_or(HANDSHAKE), Box::pin(handshake)).await.ok()??;
    let facts = facts(worker, (own, own_uri), stream.get_ref().1);
    if settings.require_sni && facts.server_name.is_none() {
        return None;
    }
    Some((Stream::Accepted(Box::new(stream)), facts))
}

fn facts(
    worker: &Worker,
    (own, own_uri): (Option<Rc<Presented>>, Option<Str>),
    connection: &ServerConnection,
) -> TlsFacts {
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let identity = leaf.map(|leaf| tulle_identity::peer::identity(leaf)).unwrap_or_default();
    TlsFacts {
        uri_san: identity.spiffe.as_ref().map(|id| id.to_string().into()),
        peer_verified: leaf.is_some(),
        peer_hash: leaf.map(|leaf| hex(leaf)).unwrap_or_default().into(),
        own_uri,
        peer_serial: leaf.map(|leaf| tulle_identity::peer::serial(leaf)).unwrap_or_default(),
        subject: leaf.map(|leaf| tulle_identity::peer::subject(leaf)).unwrap_or_default().into(),
        server_name: connection.server_name().map(Str::from),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        secured: Secured {
            version: version(connection),
            cipher: cipher(connection),
            group: group(connection),
            own,
            peer: leaf.map(|leaf| worker.tls.presented(leaf)),
        },
        intermediates: connection
            .peer_certificates()
            .and_then(|chain| chain.get(1..))
            .unwrap_or_default()
            .iter()
            .map(|each| worker.tls.presented(each))
            .collect(),
        identity,
    }
}

fn hex(certificate: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}
