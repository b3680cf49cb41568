//! A thousand clients' streams that nobody reads, or whose upstream reads nothing: windows bound what the proxy holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Bytes that left for the proxy.
#[derive(Default)]
pub struct Sent {
    bytes: AtomicUsize,
    more: Notify,
}

impl Sent {
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Waits until so many have left.
    pub async fn at_least(&self, bytes: usize) {
        while self.bytes() < bytes {
            self.more.notified().await;
        }
    }

    /// Sends without end, as far as windows allow.
    pub async fn flood(self: Arc<Self>, mut stream: SendStream<Bytes>) {
        const PIECE: usize = 16 * 1024;
        loop {
            stream.reserve_capacity(PIECE);
            let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            let piece = Bytes::from(vec![b'x'; room.min(PIECE)]);
            self.bytes.fetch_add(piece.len(), Ordering::SeqCst);
            self.more.notify_one();
            if stream.send_data(piece, false).is_err() {
                return;
            }
        }
    }
}

/// An HTTP/2 upstream that answers `/flood` with a body without end, `/deaf` with nothing, not reading what it gets, and
/// everything else with 200.
pub struct Upstream {
    pub address: SocketAddr,
    /// By `/flood`.
    pub sent: Arc<Sent>,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// That were ever made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub async fn upstream() -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sent, connections) = (Arc::<Sent>::default(), Arc::<AtomicUsize>::default());
    let made = Upstream { address, sent: sent.clone(), connections: connections.clone() };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, sent.clone()));
        }
    });
    made
}

/// An error ends the connection: the test looks at what the proxy made of it.
async fn serve(stream: TcpStream, sent: Arc<Sent>) -> Result<(), h2::Error> {
    let mut builder = h2::server::Builder::new();
    let mut server = builder.max_concurrent_streams(5_000).handshake(stream).await?;
    let mut deaf: Vec<(RecvStream, h2::server::SendResponse<Bytes>)> = Vec::new();
    while let Some(request) = server.accept().await {
        let (request, mut respond) = request?;
        match request.uri().path() {
            "/flood" => {
                let body = respond.send_response(http::Response::new(()), false)?;
                tokio::spawn(sent.clone().flood(body));
            }
            "/deaf" => deaf.push((request.into_body(), respond)),
            _ => drop(respond.send_response(http::Response::new(()), true)?),
        }
    }
    Ok(())
}

/// A client's connection to the proxy.
pub async fn client(proxy: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let socket = TcpStream::connect(proxy).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    send
}

/// A request of its own, served although the others are stuck.
pub async fn ask(proxy: SocketAddr) {
    let mut ready = client(proxy).await.ready().await.unwrap();
    let (response, _) = ready.send_request(http::Request::get("http://a/").body(()).unwrap(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
}
