//! An HTTP/2 upstream that echoes each message's data as it comes and ends with gRPC trailers.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};

/// Starts the server; it runs until the test's runtime ends.
pub async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream));
        }
    });
    Ok(address)
}

/// An error ends the connection: the test looks at what the proxy made of it.
async fn connection(stream: TcpStream) -> Result<(), h2::Error> {
    let mut server = h2::server::handshake(stream).await?;
    while let Some(request) = server.accept().await {
        let (request, mut respond) = request?;
        tokio::spawn(async move {
            let mut body = request.into_body();
            let response = Response::builder().header("content-type", "application/grpc").body(());
            let Ok(response) = response else { return Ok(()) };
            let mut send = respond.send_response(response, false)?;
            while let Some(data) = body.data().await {
                let data: Bytes = data?;
                body.flow_control().release_capacity(data.len())?;
                send.send_data(data, false)?;
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            send.send_trailers(trailers)
        });
    }
    Ok(())
}
