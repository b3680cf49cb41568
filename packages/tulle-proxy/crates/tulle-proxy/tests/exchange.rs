//! Exchanges through a proxy in this process: retries, timeouts, upgrades, HTTP/2, swaps of configuration, draining.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use common::slow::{self, Sent};
use common::{ALL, HTTP2, Proxy, cluster, http};
use tulle_testkit::client::Client;
use tulle_testkit::h1::{Reply, Upstream, ok};
use tulle_testkit::h2echo;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn over(upstream: &Upstream, route: &str) -> Proxy {
    let routes = format!("[{{match: {{prefix: /}}, route: {{cluster: app{route}}}}}]");
    Proxy::start(&http(&routes, &format!("[{}]", cluster("app", &[upstream.address], "")))).await
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::start(|_| ok("x")).await.unwrap();
    let proxy = over(&upstream, "").await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(client.ask(GET).await.unwrap().body, "x");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_failed_answer_is_retried_with_its_body() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let upstream = Upstream::start(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Bytes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
        1 => Reply::Last(Vec::new()),
        _ => ok("third"),
    });
    let upstream = upstream.await.unwrap();
    let proxy = over(&upstream, ", retry_policy: {retry_on: 5xx, num_retries: 3}").await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let answer = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "third"));
    assert_eq!(upstream.text().matches("hello").count(), 3);
}

#[tokio::test]
async fn nothing_is_retried_after_bytes_reached_the_client() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
    let upstream = Upstream::start(move |_| Reply::Last(half.clone())).await.unwrap();
    let proxy = over(&upstream, ", retry_policy: {retry_on: \"5xx,reset\", num_retries: 3}").await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    client.send(GET).await.unwrap();
    let got = client.closed().await.unwrap();
    assert!(got.ends_with(b"half"), "{:?}", String::from_utf8_lossy(&got));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_silent_upstream_is_504_and_none_is_503() {
    let upstream = Upstream::start(|_| Reply::Silence).await.unwrap();
    let proxy = over(&upstream, ", timeout: 0.05s").await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let answer = client.ask(GET).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (504, "upstream request timeout"));
    // The client's connection is not to blame.
    assert_eq!(client.ask(GET).await.unwrap().status, 504);
    let empty = Proxy::start(&http(ALL, &format!("[{}]", cluster("app", &[], "")))).await;
    let mut client = Client::connect(empty.address()).await.unwrap();
    let answer = client.ask(GET).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (503, "no healthy upstream"));
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec();
    let upstream = Upstream::start(move |_| Reply::Echo(switch.clone())).await.unwrap();
    let proxy = over(&upstream, "").await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly";
    assert_eq!(client.ask(request).await.unwrap().status, 101);
    assert_eq!(client.bytes(5).await.unwrap(), b"early");
    client.send("hello").await.unwrap();
    assert_eq!(client.bytes(5).await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_websocket_crosses_a_hop_of_http_2() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec();
    let upstream = Upstream::start(move |_| Reply::Echo(switch.clone())).await.unwrap();
    let inner = over(&upstream, "").await;
    let outer = Proxy::start(&http(ALL, &format!("[{}]", cluster("app", &[inner.address()], HTTP2)))).await;
    let mut client = Client::connect(outer.address()).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = client.ask(request).await.unwrap();
    assert_eq!(answer.status, 101, "{answer:?}");
    client.send("hello").await.unwrap();
    assert_eq!(client.bytes(5).await.unwrap(), b"hello");
}

#[tokio::test]
async fn grpc_streams_pass_with_trailers_while_both_sides_talk() {
    let upstream = h2echo::start().await.unwrap();
    let proxy = Proxy::start(&http(ALL, &format!("[{}]", cluster("app", &[upstream], HTTP2)))).await;
    let socket = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://a/pkg.Service/Method").header("content-type", "application/grpc");
    let (response, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let mut body = response.into_body();
    for message in ["one", "two", "three"] {
        stream.send_data(Bytes::from_static(message.as_bytes()), false).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), message);
    }
    // Far more than any window: flow control carries it, both ways at once.
    let large = Bytes::from(vec![7u8; 3 << 20]);
    stream.send_data(large.clone(), true).unwrap();
    let mut got = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        got += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(got, large.len());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

/// What the engine grants all streams of a connection together.
const WINDOW: usize = 4 << 20;

/// A proxy before such an upstream, with breakers that let ten thousand streams through, also while it connects: the body
/// of a refused one is thrown away, and its room granted to the next.
async fn before_slow(upstream: &slow::Upstream) -> Proxy {
    let more =
        format!("{HTTP2}, circuit_breakers: {{thresholds: [{{max_requests: 20000, max_pending_requests: 20000}}]}}");
    Proxy::start(&http(ALL, &format!("[{}]", cluster("app", &[upstream.address], &more)))).await
}

/// What may have left for the proxy: every connection's window, and what the sockets and one outgoing buffer took.
fn at_most(connections: usize) -> usize {
    connections * (WINDOW + (1 << 20))
}

#[tokio::test]
async fn ten_thousand_streams_that_nobody_reads_hold_no_more_than_the_windows() {
    let upstream = slow::upstream().await;
    let proxy = before_slow(&upstream).await;
    let mut unread = Vec::new();
    for _ in 0..10 {
        let client = slow::client(proxy.address()).await;
        for _ in 0..1_000 {
            let mut ready = client.clone().ready().await.unwrap();
            let request = http::Request::get("http://a/flood").body(()).unwrap();
            unread.push(ready.send_request(request, true).unwrap().0.await.unwrap().into_body());
        }
    }
    upstream.sent.at_least(WINDOW - (64 << 10)).await;
    // Others are served meanwhile, and the upstream gets no further.
    slow::ask(proxy.address()).await;
    let (sent, most) = (upstream.sent.bytes(), at_most(upstream.connections()));
    assert!(sent <= most && upstream.connections() <= 100, "{sent} of {most}, {} connections", upstream.connections());
    drop(unread);
}

#[tokio::test]
async fn ten_thousand_bodies_that_nobody_reads_hold_no_more_than_the_windows() {
    let sent = Arc::<Sent>::default();
    let upstream = slow::upstream().await;
    let proxy = before_slow(&upstream).await;
    let mut unanswered = Vec::new();
    for _ in 0..10 {
        let client = slow::client(proxy.address()).await;
        for _ in 0..1_000 {
            let mut ready = client.clone().ready().await.unwrap();
            let request = http::Request::post("http://a/deaf").body(()).unwrap();
            let (response, body) = ready.send_request(request, false).unwrap();
            tokio::spawn(sent.clone().flood(body));
            unanswered.push(response);
        }
    }
    sent.at_least(WINDOW - (64 << 10)).await;
    slow::ask(proxy.address()).await;
    assert!(sent.bytes() <= at_most(10), "{}", sent.bytes());
    drop(unanswered);
}

#[tokio::test]
async fn an_endpoint_is_told_each_client_on_a_connection_of_its_own() {
    let upstream = Upstream::start(|_| ok("x")).await.unwrap();
    let proxied = r#", transport_socket: {name: p, typed_config: {
  "@type": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport,
  config: {version: V1}, transport_socket: {name: envoy.transport_sockets.raw_buffer}}}"#;
    let proxy = Proxy::start(&http(ALL, &format!("[{}]", cluster("app", &[upstream.address], proxied)))).await;
    let mut one = Client::connect(proxy.address()).await.unwrap();
    let mut two = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(one.ask(GET).await.unwrap().body, "x");
    assert_eq!(two.ask(GET).await.unwrap().body, "x");
    assert_eq!(one.ask(GET).await.unwrap().body, "x");
    let line = |client: &Client| {
        let (source, port) = (client.address().unwrap(), proxy.address().port());
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {port}\r\n", source.port())
    };
    let mut expected = [line(&one), line(&two)];
    let mut told: Vec<String> = upstream.seen().iter().map(|all| first_line(all)).collect();
    expected.sort();
    told.sort();
    assert_eq!(told, expected);
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split_inclusive('\n').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_changed_listener_serves_new_connections_and_ends_old_ones() {
    let (one, two) = (Upstream::start(|_| ok("one")).await.unwrap(), Upstream::start(|_| ok("two")).await.unwrap());
    let clusters = format!("[{}, {}]", cluster("app", &[one.address], ""), cluster("other", &[two.address], ""));
    let proxy = Proxy::start(&http(ALL, &clusters)).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(client.ask(GET).await.unwrap().body, "one");
    proxy.publish(&http("[{match: {prefix: /}, route: {cluster: other}}]", &clusters)).await;
    // The old connection is served once more, by what it began with, and told to close.
    let last = client.ask(GET).await.unwrap();
    assert!(last.head.to_ascii_lowercase().contains("connection: close"), "{}", last.head);
    assert_eq!(client.closed().await.unwrap(), b"");
    let mut fresh = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(fresh.ask(GET).await.unwrap().body, "two");
}

#[tokio::test]
async fn a_cluster_that_is_gone_takes_its_numbers_along() {
    let upstream = Upstream::start(|_| ok("x")).await.unwrap();
    let proxy = over(&upstream, "").await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(client.ask(GET).await.unwrap().body, "x");
    let total = |name: &str| format!("envoy_cluster_upstream_rq_total{{envoy_cluster_name=\"{name}\"}} 1\n");
    assert!(proxy.metrics().contains(&total("app")), "{}", proxy.metrics());
    let other = format!("[{}]", cluster("other", &[upstream.address], ""));
    proxy.publish(&http("[{match: {prefix: /}, route: {cluster: other}}]", &other)).await;
    let mut fresh = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(fresh.ask(GET).await.unwrap().body, "x");
    assert!(proxy.metrics().contains(&total("other")), "{}", proxy.metrics());
    while proxy.metrics().contains("envoy_cluster_name=\"app\"") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_then_closes() {
    let upstream = Upstream::start(|_| ok("x")).await.unwrap();
    let proxy = over(&upstream, "").await;
    let mut busy = Client::connect(proxy.address()).await.unwrap();
    let mut idle = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(idle.ask(GET).await.unwrap().body, "x");
    busy.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
    proxy.drain();
    busy.send("cd").await.unwrap();
    let answer = busy.answer().await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "x"));
    assert!(answer.head.to_ascii_lowercase().contains("connection: close"), "{}", answer.head);
    assert_eq!(busy.closed().await.unwrap(), b"");
    assert_eq!(idle.closed().await.unwrap(), b"");
    proxy.ended().await;
}

#[tokio::test]
async fn bytes_pass_a_tcp_proxy_with_half_close() {
    let upstream = Upstream::start(|_| Reply::Echo(Vec::new())).await.unwrap();
    let bootstrap = format!(
        r#"{{static_resources: {{clusters: [{}], listeners: [{{name: main,
  address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{{filters: [{{name: tcp, typed_config: {{
    "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy,
    stat_prefix: tcp, cluster: app}}}}]}}]}}]}}}}"#,
        cluster("app", &[upstream.address], "")
    );
    let proxy = Proxy::start(&bootstrap).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    client.send("head\r\n\r\nbody").await.unwrap();
    assert_eq!(client.bytes(4).await.unwrap(), b"body");
    client.finish().await.unwrap();
    assert_eq!(client.closed().await.unwrap(), b"");
}
