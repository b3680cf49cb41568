//! Hostile bytes from clients and upstreams: nothing ambiguous is passed on, and the next good request succeeds.

mod common;

use common::{ALL, Proxy, cluster, http};
use tulle_testkit::client::Client;
use tulle_testkit::h1::{Reply, Upstream, ok};

async fn pair(rule: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (Upstream, Proxy) {
    let upstream = Upstream::start(rule).await.unwrap();
    let proxy = Proxy::start(&http(ALL, &format!("[{}]", cluster("app", &[upstream.address], "")))).await;
    (upstream, proxy)
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

#[tokio::test]
async fn ambiguous_requests_get_400_and_a_close_and_reach_no_upstream() {
    let (upstream, proxy) = pair(|_| ok("good")).await;
    let chunked = "Transfer-Encoding: chunked";
    let rows = [
        (1, post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        (1, post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n")),
        (2, post("Transfer-Encoding: xchunked", "0\r\n\r\n")),
        (2, post("Transfer-Encoding: chunked, gzip", "0\r\n\r\n")),
        (2, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        (2, post("Transfer-Encoding: \u{b}chunked", "0\r\n\r\n")),
        (3, post("Content-Length: 1\r\nContent-Length: 2", "ab")),
        (3, post("Content-Length: +1", "a")),
        (3, post("Content-Length: 0x1", "a")),
        (3, post("Content-Length: 99999999999999999999", "a")),
        (3, post("Content-Length: 1\r\nContent-Length: 1", "a")),
        (6, post(chunked, "1\nx\r\n0\r\n\r\n")),
        (6, post(chunked, "1_0\r\nx\r\n0\r\n\r\n")),
        (6, post(chunked, "fffffffffffffffff\r\nx\r\n")),
        (6, post(chunked, &format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(5000)))),
        (6, post(chunked, "1\r\nxy\r\n0\r\n\r\n")),
        (7, "GET / HTTP/1.1\nHost: a\n\n".to_owned()),
        (7, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n".to_owned()),
        (8, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n".to_owned()),
        (8, "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned()),
        (8, " GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (8, "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".to_owned()),
        (9, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (9, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        (15, "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (18, "get / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
    ];
    for (row, bytes) in rows {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let answer = client.ask(&bytes).await.unwrap_or_else(|e| panic!("row {row} {bytes:?}: {e}"));
        assert_eq!(answer.status, 400, "row {row}: {bytes:?}");
        assert_eq!(client.closed().await.unwrap(), b"", "row {row}: {bytes:?}");
        assert_eq!(upstream.text(), "", "row {row}: {bytes:?}");
    }
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap().body, "good");
}

#[tokio::test]
async fn http_1_0_is_refused_unless_asked_for() {
    let (upstream, proxy) = pair(|_| ok("good")).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let request = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(client.ask(request).await.unwrap().status, 426);
    assert_eq!(upstream.text(), "");
}

#[tokio::test]
async fn an_early_answer_ends_both_connections() {
    let early = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno".to_vec();
    let (upstream, proxy) = pair(move |_| Reply::Early(early.clone())).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    // The rest of the body would be a request of its own, if anybody read it as one.
    let answer = client.ask(&post("Content-Length: 60", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "no"));
    assert_eq!(client.closed().await.unwrap(), b"");
    let mut client = Client::connect(proxy.address()).await.unwrap();
    client.ask("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(upstream.seen().len(), 2, "the connection was used again");
}

#[tokio::test]
async fn surplus_bytes_of_an_upstream_are_nobodys_answer() {
    let rule = |head: &str| match head.starts_with("GET /one") {
        true => Reply::Early(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_vec(),
        ),
        false => ok("two"),
    };
    let (_upstream, proxy) = pair(rule).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(client.ask("GET /one HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap().body, "1");
    assert_eq!(client.ask("GET /two HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap().body, "two");
}

#[tokio::test]
async fn ambiguous_responses_are_502() {
    for fields in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nContent-Length: 2",
        "Transfer-Encoding: gzip",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n1").into_bytes();
        let (_upstream, proxy) = pair(move |_| Reply::Early(answer.clone())).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap().status, 502, "{fields}");
    }
}

#[tokio::test]
async fn the_absolute_target_wins_and_nominated_headers_go() {
    let (upstream, proxy) = pair(|_| ok("good")).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let request = "GET http://b/x HTTP/1.1\r\nHost: a\r\nConnection: x-identity\r\nX-Identity: me\r\nKeep-Alive: 1\r\n\
                   Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n";
    assert_eq!(client.ask(request).await.unwrap().status, 200);
    let seen = upstream.text().to_ascii_lowercase();
    assert!(seen.starts_with("get /x http/1.1\r\nhost: b\r\n"), "{seen}");
    for gone in ["x-identity", "keep-alive", "proxy-connection", "upgrade", "http2-settings"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
}

#[tokio::test]
async fn what_is_behind_a_refused_upgrade_is_dropped() {
    let (upstream, proxy) = pair(|_| ok("no")).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = client.ask(&format!("{upgrade}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(client.closed().await.unwrap(), b"");
    assert!(!upstream.text().contains("smuggled"));
}

#[tokio::test]
async fn large_heads_are_431() {
    let (upstream, proxy) = pair(|_| ok("good")).await;
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    for fields in [format!("X: {}\r\n", "y".repeat(64 * 1024)), many] {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        // The answer may come before all of it has been sent.
        let _sent = client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        assert_eq!(client.answer().await.unwrap().status, 431);
    }
    assert_eq!(upstream.text(), "");
}

/// Every parser's fuzz target, over its corpus and over mutations that are the same each time.
#[test]
fn every_parser_keeps_its_promises() {
    std::thread::scope(|scope| {
        for target in tulle_fuzz::TARGETS {
            scope.spawn(|| tulle_fuzz::replay(*target));
        }
    });
}
