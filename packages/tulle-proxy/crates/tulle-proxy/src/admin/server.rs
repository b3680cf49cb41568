//! The HTTP server around [`Admin`]: small, on the control thread, careful about who asks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::{Admin, Answer};

/// The endpoint is for a few operators, probes and one Prometheus. One more takes the place of the oldest, so that clients
/// who say nothing keep nobody from asking whether the process is well.
const MAX_CONNECTIONS: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept (out of descriptors), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What others than this machine may see.
const PUBLIC: [&str; 2] = ["/ready", "/stats/prometheus"];

/// Serves for ever.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                open.retain(|task| !task.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(tokio::spawn(connection(stream, peer, admin.clone())).abort_handle());
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, admin: Arc<Admin>) {
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(respond(&admin, peer.ip(), &request)) }
    });
    // An error here is the client's end of a conversation with nobody else to tell.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn respond(admin: &Admin, peer: IpAddr, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let path = request.uri().path();
    let answer = match permitted(peer, host, request.method(), path) {
        Ok(()) => admin.answer(request.method(), path, request.uri().query().unwrap_or_default()),
        Err(reason) => Answer::error(StatusCode::FORBIDDEN, reason),
    };
    let body = if request.method() == Method::HEAD { Bytes::new() } else { Bytes::from(answer.body) };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Others than this machine see readiness and metrics only. A name other than `localhost` in `Host` means that a web page
/// made the request through DNS rebinding: such a page must not read or change anything.
fn permitted(peer: IpAddr, host: &str, method: &Method, path: &str) -> Result<(), &'static str> {
    let local = peer.to_canonical().is_loopback();
    if !local && (*method != Method::GET || !PUBLIC.contains(&path)) {
        return Err("only /ready and /stats/prometheus are served beyond loopback\n");
    }
    let (name, _) = tulle_core::address::split_authority(host);
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if local && !literal && !name.eq_ignore_ascii_case("localhost") {
        return Err("the host must be localhost or an IP address\n");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask_what() {
        let cases = [
            ("127.0.0.1", "127.0.0.1:15000", Method::GET, "/config_dump", true),
            ("127.0.0.1", "localhost:15000", Method::POST, "/drain_listeners", true),
            ("::1", "[::1]:15000", Method::GET, "/config_dump", true),
            ("::ffff:127.0.0.1", "127.0.0.1", Method::GET, "/config_dump", true),
            ("127.0.0.1", "evil.example:15000", Method::GET, "/config_dump", false),
            ("127.0.0.1", "", Method::GET, "/ready", false),
            ("192.0.2.1", "192.0.2.9:15000", Method::GET, "/config_dump", false),
            ("192.0.2.1", "192.0.2.9:15000", Method::POST, "/ready", false),
            ("192.0.2.1", "pod.example:15000", Method::GET, "/ready", true),
            ("192.0.2.1", "192.0.2.9:15000", Method::GET, "/stats/prometheus", true),
        ];
        for (peer, host, method, path, expected) in cases {
            let verdict = permitted(peer.parse().unwrap(), host, &method, path);
            assert_eq!(verdict.is_ok(), expected, "{peer} {host} {method} {path}");
        }
    }
}
