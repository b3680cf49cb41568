//! What the HTTP/1.1 codec refuses and accepts, and that neither depends on how the bytes arrive.

use bytes::BytesMut;
use proptest::prelude::*;
use tulle_http::h1::body::{Decoded, Decoder};
use tulle_http::h1::parse::{self, HeadScan};
use tulle_http::h1::{Http10, Limits, Refused};
use tulle_http::{Framing, Headers, RequestHead, ResponseHead, To, Tunnel};

fn parse_with(bytes: &[u8], limits: &Limits) -> Result<RequestHead, Refused> {
    let mut scan = HeadScan::default();
    let n = scan.advance(bytes, limits)?.ok_or(Refused::Syntax)?;
    let mut head = RequestHead::default();
    parse::request(&bytes[..n], limits, &mut head)?;
    Ok(head)
}

fn request(text: &str) -> Result<RequestHead, Refused> {
    parse_with(text.as_bytes(), &Limits::default())
}

fn post(fields: &str) -> Result<RequestHead, Refused> {
    request(&format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"))
}

#[test]
fn nobody_hides_who_asks() {
    for name in ["host", "X-Forwarded-For", "close, x-forwarded-proto", "x-forwarded-host", ":authority"] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {name}\r\n\r\n");
        assert_eq!(request(&text).err(), Some(Refused::Nominated), "{name}");
    }
}

#[test]
fn ambiguous_framing_is_refused() {
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: \"chunked\"",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -3",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 9223372036854775808",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked ",
        "Content-Length : 3",
        " Content-Length: 3",
        "X: a\r\n folded",
        "X: a\0b",
        "X: a\rb",
        "X y: a",
        "Host: b",
    ] {
        assert!(post(fields).is_err(), "accepted {fields:?}");
    }
}

#[test]
fn malformed_heads_are_refused() {
    for text in [
        "GET /x HTTP/1.1\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /x HTTP/1.1\nHost: a\n\n",
        "GET /x HTTP/1.1\r\nHost: a\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nX: \n\r\n",
        " GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "get /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x#f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /x HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a%00\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a..\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [g]\r\n\r\n",
        "CONNECT * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x HTTP/1.0\r\nHost: a\r\n\r\n",
    ] {
        assert!(request(text).is_err(), "accepted {text:?}");
    }
}

#[test]
fn limits_have_their_own_statuses() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    assert_eq!(request(&long).err().map(Refused::status), Some(414));
    let large = post(&format!("X: {}", "y".repeat(64 * 1024)));
    assert_eq!(large.err().map(Refused::status), Some(431));
    let many: Vec<String> = (0..101).map(|n| format!("X-{n}: 1")).collect();
    assert_eq!(post(&many.join("\r\n")).err().map(Refused::status), Some(431));
}

#[test]
fn good_heads_are_read() {
    let head = post("Transfer-Encoding: Chunked").unwrap();
    assert_eq!(head.framing, Framing::Delimited);
    assert_eq!(post("Content-Length: 9223372036854775807").unwrap().framing, Framing::Length(i64::MAX as u64));
    assert_eq!(post("Content-Length: 0").unwrap().framing, Framing::None);
    let head = request("\r\nGET /x?q HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!((head.path(), head.authority(), head.close), (&b"/x?q"[..], &b"a:80"[..], true));
    let head = request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(head.path(), b"*");
    for host in ["a-b.c_d", "a.", "a:", "a:65535", "[::1]", "[::ffff:1.2.3.4]:80", "10.0.0.1:80"] {
        let head = request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!(head.authority(), host.as_bytes());
    }
}

#[test]
fn an_absolute_target_wins_over_host() {
    let head = request("GET http://b.c:81?q HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((head.authority(), head.path()), (&b"b.c:81"[..], &b"/?q"[..]));
    assert!(head.headers.get(b"host").is_none());
}

#[test]
fn upgrades_are_told_apart() {
    for two in ["websocket\r\nUpgrade: h2c", "h2c\r\nUpgrade: websocket"] {
        let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {two}\r\n\r\n"));
        assert_eq!(head.unwrap().tunnel, Tunnel::No, "{two}");
    }
    let ws = request("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n").unwrap();
    assert_eq!(ws.tunnel, Tunnel::WebSocket);
    let with_body = post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5").unwrap();
    assert_eq!((with_body.tunnel, with_body.framing), (Tunnel::No, Framing::Length(5)));
    let h2c = request("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n").unwrap();
    assert_eq!(h2c.tunnel, Tunnel::No);
}

#[test]
fn connect_has_a_host_and_a_port_and_nothing_else() {
    let connect = |target: &str, more: &str| request(&format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n"));
    for target in ["b.test:443", "[2001:db8::1]:80", "192.0.2.1:1"] {
        let head = connect(target, "").unwrap();
        assert_eq!((head.tunnel, head.authority(), head.path()), (Tunnel::Connect, target.as_bytes(), &b""[..]));
        assert!(head.headers.get(b"host").is_none());
    }
    for target in ["/x", "*", "b.test", "b.test:", ":80", "b.test:0", "b.test:65536", "b.test:+1", "b:1:2", "u@b:1"] {
        assert!(connect(target, "").is_err(), "accepted {target}");
    }
    for fields in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Host: b\r\n"] {
        assert!(connect("b.test:1", fields).is_err(), "accepted {fields}");
    }
    let upgrade = connect("b.test:1", "Connection: upgrade\r\nUpgrade: websocket\r\n").unwrap();
    assert_eq!(upgrade.tunnel, Tunnel::Connect);
    let old = Limits { http10: Http10::Accept, ..Limits::default() };
    assert!(parse_with(b"CONNECT b.test:1 HTTP/1.0\r\nHost: a\r\n\r\n", &old).is_err());
}

#[test]
fn only_http_1_0_goes_without_a_host_and_only_where_it_gets_one() {
    let limits = |http10| Limits { http10, ..Limits::default() };
    let lax = limits(Http10::AcceptWithoutHost);
    assert_eq!(parse_with(b"GET / HTTP/1.0\r\n\r\n", &lax).unwrap().authority(), b"");
    assert_eq!(parse_with(b"GET http://b/ HTTP/1.0\r\n\r\n", &lax).unwrap().authority(), b"b");
    assert_eq!(parse_with(b"GET / HTTP/1.0\r\nHost:\r\n\r\n", &lax).err(), Some(Refused::Host));
    assert_eq!(parse_with(b"GET / HTTP/1.1\r\n\r\n", &lax).err(), Some(Refused::Host));
    assert_eq!(parse_with(b"GET / HTTP/1.0\r\n\r\n", &limits(Http10::Accept)).err(), Some(Refused::Host));
}

#[test]
fn http_1_0_is_framed_strictly_where_it_is_accepted() {
    let limits = Limits { http10: Http10::Accept, ..Limits::default() };
    let chunked = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(parse_with(chunked, &limits).err(), Some(Refused::Framing));
    assert!(parse_with(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", &limits).unwrap().close);
}

fn response(text: &str, to: To) -> Result<ResponseHead, Refused> {
    let mut head = ResponseHead::default();
    parse::response(text.as_bytes(), &Limits::default(), to, &mut head)?;
    Ok(head)
}

#[test]
fn responses_are_framed_by_status_and_method() {
    let with = |status: u16, fields: &str, to| response(&format!("HTTP/1.1 {status} x\r\n{fields}\r\n\r\n"), to);
    assert_eq!(with(200, "Content-Length: 5", To::Other).unwrap().framing, Framing::Length(5));
    assert_eq!(with(200, "Content-Length: 5", To::Head).unwrap().framing, Framing::None);
    assert_eq!(with(200, "Content-Length: 5", To::Connect).unwrap().framing, Framing::None);
    assert_eq!(with(403, "Content-Length: 5", To::Connect).unwrap().framing, Framing::Length(5));
    assert_eq!(with(304, "Content-Length: 5", To::Other).unwrap().framing, Framing::None);
    assert_eq!(with(200, "X: 1", To::Other).unwrap().framing, Framing::Close);
    assert!(with(200, "Content-Length: 5\r\nTransfer-Encoding: chunked", To::Other).is_err());
    assert!(with(200, "Content-Length: 5\r\nContent-Length: 6", To::Other).is_err());
    assert!(with(200, "Transfer-Encoding: gzip", To::Other).is_err());
}

/// Decodes a chunked body that arrives in pieces cut at `cuts`.
fn decode(bytes: &[u8], cuts: &[usize]) -> Result<Option<Vec<u8>>, Refused> {
    let mut decoder = Decoder::new(Framing::Delimited);
    let (mut buf, mut body, mut trailers) = (BytesMut::new(), Vec::new(), Headers::default());
    let mut at = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        buf.extend_from_slice(&bytes[at..end]);
        at = end;
        loop {
            match decoder.decode(&mut buf, &mut trailers)? {
                Decoded::Data { data, last } => {
                    body.extend_from_slice(&data);
                    if last {
                        return Ok(Some(body));
                    }
                }
                Decoded::End => return Ok(Some(body)),
                Decoded::More => break,
            }
        }
    }
    Ok(None)
}

#[test]
fn malformed_chunks_are_refused() {
    let huge = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(5000));
    for text in [
        "1\nx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1_0\r\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "1 \r\nx\r\n0\r\n\r\n",
        "\r\nx\r\n0\r\n\r\n",
        "10000000000000000\r\nx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
        "1;a\0\r\nx\r\n0\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\nA: b\n\r\n",
        &huge,
    ] {
        assert!(decode(text.as_bytes(), &[]).is_err(), "accepted {text:?}");
    }
}

#[test]
fn trailers_that_route_or_authenticate_are_dropped() {
    let mut decoder = Decoder::new(Framing::Delimited);
    let mut trailers = Headers::default();
    let mut buf =
        BytesMut::from(&b"0\r\nHost: a\r\nAuthorization: b\r\nContent-Length: 3\r\nGrpc-Status: 0\r\n\r\n"[..]);
    assert!(matches!(decoder.decode(&mut buf, &mut trailers), Ok(Decoded::End)));
    assert_eq!(trailers.len(), 1);
    assert_eq!(trailers.get(b"grpc-status"), Some(&b"0"[..]));
}

#[test]
fn what_is_behind_a_chunked_body_is_the_next_messages() {
    for behind in [b"GE\nGET /".to_vec(), vec![b'x'; 10_000], b"\n".to_vec()] {
        let mut decoder = Decoder::new(Framing::Delimited);
        let mut buf = BytesMut::from(&[&b"0\r\nT: v\r\n\r\n"[..], &behind].concat()[..]);
        let mut trailers = Headers::default();
        assert!(matches!(decoder.decode(&mut buf, &mut trailers), Ok(Decoded::End)));
        assert_eq!((&buf[..], trailers.len()), (&behind[..], 1));
    }
}

proptest! {
    #[test]
    fn chunked_bodies_survive_any_cut(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
                                      seed in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:X};x=y\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\nT: v\r\n\r\n");
        let mut cuts: Vec<usize> = seed.iter().map(|i| i.index(wire.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(decode(&wire, &cuts), Ok(Some(chunks.concat())));
        prop_assert_eq!(decode(&wire[..wire.len() - 1], &cuts.iter().map(|c| (*c).min(wire.len() - 1)).collect::<Vec<_>>()), Ok(None));
    }

    #[test]
    fn hostile_chunks_never_panic_and_cuts_do_not_matter(wire in "[0-9a-f;\r\n x_]{0,60}",
                                                         seed in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        let bytes = wire.as_bytes();
        let mut cuts: Vec<usize> = seed.iter().filter(|_| !bytes.is_empty()).map(|i| i.index(bytes.len())).collect();
        cuts.sort_unstable();
        let whole = decode(bytes, &[]);
        let cut = decode(bytes, &cuts);
        prop_assert_eq!(whole.is_err(), cut.is_err());
    }

    #[test]
    fn heads_are_found_wherever_they_are_cut(junk in "[ -~]{0,30}", cut in any::<prop::sample::Index>()) {
        let text = format!("GET /x HTTP/1.1\r\nHost: a\r\nX: {junk}\r\n\r\nrest");
        let bytes = text.as_bytes();
        let limits = Limits::default();
        let mut scan = HeadScan::default();
        let at = cut.index(bytes.len());
        let early = scan.advance(&bytes[..at], &limits).unwrap();
        let found = early.or(scan.advance(bytes, &limits).unwrap());
        prop_assert_eq!(found, Some(bytes.len() - 4));
    }

    #[test]
    fn hostile_heads_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_with(&bytes, &Limits::default());
        let with_start = [b"GET / HTTP/1.1\r\nHost: a\r\n", &bytes[..], b"\r\n\r\n"].concat();
        if let Ok(head) = parse_with(&with_start, &Limits::default()) {
            prop_assert!(tulle_http::h1::parse::path_allowed(head.path()));
        }
    }
}
