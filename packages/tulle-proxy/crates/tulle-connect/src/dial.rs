//! Dialing: a socket within the connect timeout, and TLS over it.

use std::any::Any;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tulle_balance::{Endpoint, Labels};
use tulle_config::cluster::{Bind, Proxied, TransportMatch, UpstreamTransport};
use tulle_config::{Cluster, UpstreamTls};
use tulle_core::Address;
use tulle_http::{Dialed, Stream};

use crate::error::DialError;
use crate::proxy_header::{self, Ends};
use crate::whose::{ServerIs, Whose};

/// What a TLS dial needs, made from the configuration by whoever holds the identities.
#[derive(Clone)]
pub struct TlsDial {
    pub config: Arc<rustls::ClientConfig>,
    pub server_name: ServerName<'static>,
    /// Whatever the dialer knows its own certificate by.
    pub own: Option<Rc<dyn Any>>,
}

/// What logs may ask of a connection.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Counted on this worker.
    pub id: u64,
    /// This end's address.
    pub local: Option<SocketAddr>,
    /// What the dialer remembers of the handshake.
    pub secured: Option<Rc<dyn Any>>,
}

/// Turns TLS settings into something to dial with. One per worker; it may cache.
pub trait Dialer {
    /// `alpn`: what to offer instead of the settings' own list, when not empty. `name`: who the server has to be, where
    /// requests say it.
    ///
    /// # Errors
    /// [`DialError::NoIdentity`] while a referenced secret has not arrived.
    fn tls(
        &self,
        settings: &Arc<UpstreamTls>,
        endpoint: &Endpoint,
        alpn: &[&[u8]],
        name: Option<&ServerIs>,
    ) -> Result<TlsDial, DialError>;

    /// What is remembered of a handshake, for logs.
    fn secured(&self, _own: Option<Rc<dyn Any>>, _stream: &TlsStream<TcpStream>) -> Option<Rc<dyn Any>> {
        None
    }

    /// Called with each connection over TLS that was made. What it returns is dropped before the socket is closed.
    fn dialed(&self, _stream: &TlsStream<TcpStream>) -> Option<Box<dyn Any>> {
        None
    }

    /// Where the control plane listens, which is nobody's upstream.
    fn own_servers(&self) -> &[SocketAddr] {
        &[]
    }
}

/// The transport for an endpoint: the first match whose criteria its metadata holds, else the cluster's own.
pub fn transport<'c>(cluster: &'c Cluster, endpoint: &Endpoint) -> &'c UpstreamTransport {
    let labels = &endpoint.metadata.transport;
    let fit = cluster.transport_matches.iter().find(|m| fits(m, labels));
    fit.map_or(&cluster.transport, |m| &m.transport)
}

fn fits(candidate: &TransportMatch, labels: &Labels) -> bool {
    candidate.criteria.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Connects to `endpoint` of `cluster` on this proxy's own behalf, with TLS where its transport says so. No time limit
/// of its own.
pub async fn dial(
    dialer: &Rc<dyn Dialer>,
    cluster: &Cluster,
    endpoint: &Endpoint,
    alpn: &[&[u8]],
) -> Result<Stream, DialError> {
    dial_for(dialer, cluster, endpoint, alpn, None).await.map(|(stream, _)| stream)
}

/// The same for somebody's requests.
pub async fn dial_for(
    dialer: &Rc<dyn Dialer>,
    cluster: &Cluster,
    endpoint: &Endpoint,
    alpn: &[&[u8]],
    whose: Option<&Whose>,
) -> Result<(Stream, Way), DialError> {
    let address = endpoint.address.socket().ok_or(DialError::Address)?;
    if cluster.egress.as_ref().is_some_and(|guard| guard.refuses(address, dialer.own_servers())) {
        return Err(DialError::Forbidden);
    }
    let transport = transport(cluster, endpoint);
    let tls = match transport.tls() {
        None => None,
        Some(settings) => Some(dialer.tls(settings, endpoint, alpn, whose.and_then(|whose| whose.name.as_ref()))?),
    };
    let more = &endpoint.metadata.more_addresses;
    let connecting = async {
        if more.is_empty() {
            connect(cluster, address).await
        } else {
            connect_any(dialer, cluster, address, more).await
        }
    };
    let mut tcp = connecting.await.map_err(DialError::Connect)?;
    if let Some(form) = transport.proxied() {
        tell(&mut tcp, form, whose.and_then(|whose| whose.ends.as_ref())).await.map_err(DialError::Connect)?;
    }
    let mut way = Way { local: tcp.local_addr().ok(), ..Way::default() };
    match tls {
        None => Ok((Stream::Tcp(tcp), way)),
        Some(tls) => {
            let connector = TlsConnector::from(tls.config);
            let stream = connector.connect(tls.server_name, tcp).await.map_err(|e| DialError::Tls(e.to_string()))?;
            let kept = dialer.dialed(&stream);
            way.secured = dialer.secured(tls.own, &stream);
            Ok((Stream::Dialed(Box::new(Dialed::new(stream, kept))), way))
        }
    }
}

/// How long an address is tried alone (RFC 8305 §5 recommends 250 ms; Envoy waits so long).
const HEAD_START: Duration = Duration::from_millis(300);

type Connecting<'c> = Pin<Box<dyn Future<Output = std::io::Result<TcpStream>> + 'c>>;

/// Connects to the first of an endpoint's addresses that answers: the next is tried beside those before it when they
/// have failed or taken long.
async fn connect_any(
    dialer: &Rc<dyn Dialer>,
    cluster: &Cluster,
    first: SocketAddr,
    more: &[Address],
) -> std::io::Result<TcpStream> {
    let allowed = |address: &SocketAddr| {
        cluster.egress.as_ref().is_none_or(|guard| !guard.refuses(*address, dialer.own_servers()))
    };
    let mut left = std::iter::once(first).chain(more.iter().filter_map(Address::socket).filter(allowed));
    let mut tried: Vec<Connecting<'_>> = Vec::new();
    let mut failure = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    let mut alone: Option<Pin<Box<Sleep>>> = None;
    // Whether it is the next one's turn, and whether there is none any more.
    let (mut due, mut ended) = (true, false);
    std::future::poll_fn(|cx| {
        loop {
            if std::mem::take(&mut due) {
                let next = left.next();
                ended = next.is_none();
                alone = next.map(|_| Box::pin(tokio::time::sleep(HEAD_START)));
                tried.extend(next.map(|address| Box::pin(connect(cluster, address)) as Connecting<'_>));
            }
            let mut at = 0;
            while let Some(one) = tried.get_mut(at) {
                match one.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        failure = error;
                        due = true;
                        drop(tried.remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            if tried.is_empty() && ended {
                return Poll::Ready(Err(std::mem::replace(&mut failure, std::io::ErrorKind::Other.into())));
            }
            if alone.as_mut().is_some_and(|wait| wait.as_mut().poll(cx).is_ready()) {
                alone = None;
                due = true;
            }
            if !due {
                return Poll::Pending;
            }
        }
    })
    .await
}

async fn tell(tcp: &mut TcpStream, form: &Proxied, client: Option<&Ends>) -> std::io::Result<()> {
    let own = Ends { source: tcp.local_addr()?, destination: tcp.peer_addr()?, fields: None };
    tcp.write_all(&proxy_header::header(form, client, &own)).await
}

/// A socket that may connect to `address`, in the namespace and from the address that are said.
fn socket(bind: Option<&Bind>, address: SocketAddr) -> std::io::Result<TcpSocket> {
    let make = || if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let Some(bind) = bind else { return make() };
    let socket = match &bind.namespace {
        Some(path) => tulle_netns::inside(path, make)?,
        None => make()?,
    };
    // Without an address the kernel chooses when it knows the other end; bound before, each connection would take a
    // port that no other may use.
    if !bind.address.ip().is_unspecified() || bind.address.port() != 0 {
        socket.bind(bind.address)?;
    }
    Ok(socket)
}

async fn connect(cluster: &Cluster, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket(cluster.bind.as_ref(), address)?;
    socket.set_nodelay(true)?;
    if let Some(keep) = &cluster.tcp_keepalive {
        let mut settings = socket2::TcpKeepalive::new();
        if let Some(time) = keep.time {
            settings = settings.with_time(time);
        }
        if let Some(interval) = keep.interval {
            settings = settings.with_interval(interval);
        }
        if let Some(probes) = keep.probes {
            settings = settings.with_retries(probes);
        }
        socket2::SockRef::from(&socket).set_tcp_keepalive(&settings)?;
    }
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use tulle_testkit::netns::Namespace;

    use super::*;

    fn bind(address: &str, namespace: Option<&str>) -> Bind {
        Bind { address: address.parse().unwrap(), namespace: namespace.map(Into::into) }
    }

    #[tokio::test]
    async fn calls_leave_from_inside_the_namespace() {
        let Some(namespace) = Namespace::or_skip() else { return };
        let listener = tulle_netns::inside(namespace.path(), || TcpListener::bind("127.77.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let own = socket(None, address).unwrap().connect(address).await;
        assert_eq!(own.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        for from in ["0.0.0.0:0", "127.0.0.9:0"] {
            let bind = bind(from, Some(namespace.path()));
            let made = socket(Some(&bind), address).unwrap().connect(address).await.unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, made.local_addr().unwrap());
        }
    }

    #[test]
    fn a_namespace_that_is_gone_is_an_error_of_the_call() {
        let bind = bind("0.0.0.0:0", Some("/nowhere"));
        let error = socket(Some(&bind), "127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
