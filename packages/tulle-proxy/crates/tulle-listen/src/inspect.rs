//! Reads a new connection's first bytes once and says what they are; the bytes travel on with the stream.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tulle_config::listener::ListenerFilters;

use crate::client_hello::{self, ClientHello, Hello, MAX_HELLO};
use crate::http_detect::{self, Detected};
use crate::prefixed::Prefixed;
use crate::proxy_protocol::{self, ProxyHeader};

/// What inspection learned, beside the stream itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    pub tls: bool,
    /// Lower case.
    pub server_name: Option<String>,
    /// ALPN of the ClientHello, or the one protocol that HTTP inspection found.
    pub application_protocols: Vec<Vec<u8>>,
    /// Where the client was going before it was redirected here.
    pub original: Option<SocketAddr>,
    /// Source and destination by PROXY protocol.
    pub proxied: Option<(SocketAddr, SocketAddr)>,
    /// Fields of the PROXY header that pass on, as they stand there.
    pub fields: Vec<u8>,
}

/// Why a connection is closed before a chain could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("the connection was closed or failed during inspection: {0}")]
    Io(#[from] io::Error),
    #[error("no decisive bytes within the listener-filter timeout")]
    Timeout,
    #[error("malformed or missing PROXY protocol header")]
    ProxyProtocol,
    #[error("malformed TLS ClientHello")]
    ClientHello,
}

/// Inspects as `filters` ask. Listeners that inspect nothing pay nothing.
///
/// A client that sends nothing because its server speaks first is let through after `filters.timeout` when
/// `continue_on_timeout` is set; it then counts as plaintext of an unknown protocol.
pub async fn inspect(
    mut stream: TcpStream,
    filters: &ListenerFilters,
) -> Result<(Inspected, Prefixed<TcpStream>), InspectError> {
    let original = if filters.original_dst { original(&stream) } else { None };
    if !filters.reads_first() {
        return Ok((Inspected { original, ..Inspected::default() }, Prefixed::new(Vec::new(), stream)));
    }
    let mut seen = Vec::new();
    let reading = read_until_decided(&mut stream, filters, &mut seen);
    let outcome = match filters.timeout {
        None => Some(reading.await),
        Some(limit) => within(limit, reading).await,
    };
    if matches!(outcome, Some(Err(InspectError::ProxyProtocol))) {
        // As Envoy leaves it: whoever sends this is no neighbour of ours. When it fails the socket is gone already.
        let _gone = stream.set_zero_linger();
    }
    let found = match outcome {
        Some(found) => found?,
        None if filters.continue_on_timeout => Found::default(),
        None => return Err(InspectError::Timeout),
    };
    seen.drain(..found.consumed);
    Ok((Inspected { original, ..found.inspected }, Prefixed::new(seen, stream)))
}

/// The destination before the kernel's redirection; `None` for connections that came straight here.
fn original(stream: &TcpStream) -> Option<SocketAddr> {
    let local = stream.local_addr().ok()?;
    let socket = socket2::SockRef::from(stream);
    let found = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    found.ok()?.as_socket().filter(|original| *original != local)
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

#[derive(Default)]
struct Found {
    inspected: Inspected,
    /// Bytes of a PROXY header, which are not handed on.
    consumed: usize,
}

async fn read_until_decided(
    stream: &mut TcpStream,
    filters: &ListenerFilters,
    seen: &mut Vec<u8>,
) -> Result<Found, InspectError> {
    loop {
        if let Some(found) = decide(filters, seen)? {
            return Ok(found);
        }
        if stream.read_buf(seen).await? == 0 {
            // Half-closed early: what came decides, as in Envoy.
            return decide_at_end(filters, seen);
        }
    }
}

/// `None` while more bytes are needed.
fn decide(filters: &ListenerFilters, seen: &[u8]) -> Result<Option<Found>, InspectError> {
    let mut found = Found::default();
    if let Some(options) = &filters.proxy_protocol {
        match proxy_protocol::parse_for(seen, options) {
            ProxyHeader::Partial => return Ok(None),
            ProxyHeader::Absent if options.allow_requests_without => {}
            ProxyHeader::Absent | ProxyHeader::Malformed => {
                return Err(InspectError::ProxyProtocol);
            }
            ProxyHeader::Present { length, addresses } => {
                found.consumed = length;
                found.inspected.proxied = addresses;
                if addresses.is_some() {
                    // Looked at even where none passes: what does not fit its header is malformed.
                    let fields = proxy_protocol::passed(&seen[..length], &options.pass);
                    found.inspected.fields = fields.ok_or(InspectError::ProxyProtocol)?;
                }
            }
        }
    }
    let rest = &seen[found.consumed..];
    if filters.tls {
        match client_hello::parse(rest) {
            Hello::Partial => return Ok(None),
            Hello::Malformed => return Err(InspectError::ClientHello),
            Hello::NotTls => {}
            Hello::Complete(ClientHello { server_name, alpn }) => {
                found.inspected.tls = true;
                found.inspected.server_name = server_name;
                found.inspected.application_protocols = alpn;
                return Ok(Some(found));
            }
        }
    }
    if filters.http {
        match http_detect::detect(rest) {
            Detected::Partial => return Ok(None),
            detected => {
                let name = detected.application_protocol().map(|name| name.as_bytes().to_vec());
                found.inspected.application_protocols.extend(name);
            }
        }
    }
    Ok(Some(found))
}

fn decide_at_end(filters: &ListenerFilters, seen: &[u8]) -> Result<Found, InspectError> {
    if seen.is_empty() || filters.proxy_protocol.is_some() {
        return Err(InspectError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    match decide(filters, seen)? {
        Some(found) => Ok(found),
        None if seen.len() > MAX_HELLO => Err(InspectError::ClientHello),
        None => Ok(Found::default()),
    }
}
