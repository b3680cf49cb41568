//! Two engines talk: heads, bodies within windows, trailers, resets and leaving, whatever the pieces the bytes come in.

mod common;

use bytes::Bytes;
use common::{CONFIG, List, exchange, waker};
use proptest::prelude::*;
use tulle_h2::{Body, Engine, Gone, Key, Reason, Scheme};

fn pair() -> (Engine<List>, Engine<List>) {
    (Engine::client(CONFIG), Engine::server(CONFIG))
}

fn ask(client: &mut Engine<List>, end: bool) -> Key {
    let head = |block: &mut tulle_h2::BlockWriter<'_>| {
        block.method(b"POST");
        block.scheme(Scheme::Http);
        block.field(b":authority", b"shop.example.com");
        block.path(b"/a?b=c");
        block.field(b"x-one", b"1");
        block.field(b"te", b"trailers");
    };
    client.open(false, end, head).expect("room for a stream")
}

/// Moves a body from one engine to the other, the reader taking everything at once; returns what arrived.
fn carry(from: (&mut Engine<List>, Key), to: (&mut Engine<List>, Key), body: &[u8], step: usize) -> Vec<u8> {
    let (mut rest, mut seen) = (Bytes::copy_from_slice(body), Vec::new());
    let mut sent = false;
    loop {
        if !sent {
            from.0.send(from.1, &mut rest, true, &waker()).unwrap();
            sent = rest.is_empty();
        }
        exchange(from.0, to.0, step);
        loop {
            match to.0.read(to.1, &waker()) {
                Body::Data { data, last } => {
                    seen.extend_from_slice(&data);
                    if last {
                        return seen;
                    }
                }
                Body::End => return seen,
                Body::Wait => break,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_request_and_its_answer() {
    for step in [1, 7, 100_000] {
        let (mut client, mut server) = pair();
        let key = ask(&mut client, false);
        exchange(&mut client, &mut server, step);
        let at_server = server.accept().expect("a stream");
        let (head, fault, ended) = server.take_head(at_server, &waker()).unwrap().unwrap();
        assert_eq!((fault, ended), (None, false));
        let names: Vec<&str> = head.0.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, [":method", ":scheme", ":authority", ":path", "x-one", "te"]);
        assert_eq!(carry((&mut client, key), (&mut server, at_server), b"hello", step), b"hello");
        server.interim(at_server, |block| block.status(103)).unwrap();
        server.respond(at_server, false, |block| block.status(201)).unwrap();
        server.send(at_server, &mut Bytes::from_static(b"answer"), false, &waker()).unwrap();
        server.end_with(at_server, |block| block.field(b"grpc-status", b"0")).unwrap();
        exchange(&mut client, &mut server, step);
        let (interim, ..) = client.take_head(key, &waker()).unwrap().unwrap();
        assert_eq!(interim.get(":status"), Some("103"));
        let (head, ..) = client.take_head(key, &waker()).unwrap().unwrap();
        assert_eq!(head.get(":status"), Some("201"));
        let mut answer = Vec::new();
        let trailers = loop {
            match client.read(key, &waker()) {
                Body::Data { data, last: false } => answer.extend_from_slice(&data),
                Body::Trailers(trailers) => break trailers,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(answer, b"answer");
        assert_eq!(trailers.get("grpc-status"), Some("0"));
        assert!(matches!(client.read(key, &waker()), Body::End));
        client.release(key);
        server.release(at_server);
        exchange(&mut client, &mut server, step);
        assert_eq!((client.live(), server.live(), client.failed(), server.failed()), (0, 0, None, None));
    }
}

#[test]
fn data_before_a_reset_is_read_before_it() {
    let (mut client, mut server) = pair();
    let key = ask(&mut client, true);
    exchange(&mut client, &mut server, 999);
    let at_server = server.accept().unwrap();
    server.respond(at_server, false, |block| block.status(200)).unwrap();
    server.send(at_server, &mut Bytes::from_static(b"part"), false, &waker()).unwrap();
    server.reset(at_server, Reason::INTERNAL_ERROR);
    exchange(&mut client, &mut server, 999);
    assert!(client.take_head(key, &waker()).unwrap().is_ok());
    assert!(matches!(client.read(key, &waker()), Body::Data { data, last: false } if data == b"part"[..]));
    assert!(matches!(client.read(key, &waker()), Body::Gone(Gone::Reset(Reason::INTERNAL_ERROR))));
}

#[test]
fn a_reader_that_takes_nothing_holds_back_no_more_than_its_window() {
    let (mut client, mut server) = pair();
    let key = ask(&mut client, false);
    exchange(&mut client, &mut server, 4096);
    let mut body = Bytes::from(vec![b'x'; 1 << 20]);
    for _ in 0..20 {
        client.send(key, &mut body, true, &waker()).unwrap();
        exchange(&mut client, &mut server, 4096);
    }
    assert_eq!(body.len(), (1 << 20) - CONFIG.stream_window as usize);
}

#[test]
fn leaving_takes_two_goaways_and_serves_what_is_on_its_way() {
    let (mut client, mut server) = pair();
    exchange(&mut client, &mut server, 999);
    server.shutdown();
    let key = ask(&mut client, true);
    exchange(&mut client, &mut server, 999);
    assert!(!client.has_room() && !server.is_done() && !client.is_done());
    let at_server = server.accept().expect("it was on its way");
    server.respond(at_server, true, |block| block.status(204)).unwrap();
    exchange(&mut client, &mut server, 999);
    assert!(client.take_head(key, &waker()).unwrap().is_ok());
    assert!(server.is_done() && client.is_done());
}

#[test]
fn pings_are_answered() {
    let (mut client, mut server) = pair();
    exchange(&mut client, &mut server, 999);
    for _ in 0..3 {
        client.ping();
        assert!(client.awaits_pong());
        exchange(&mut client, &mut server, 5);
        assert!(!client.awaits_pong());
    }
}

#[test]
fn a_stream_beyond_the_limit_is_refused() {
    let (mut client, mut server) = pair();
    let keys: Vec<Key> = (0..11).map(|_| ask(&mut client, true)).collect();
    exchange(&mut client, &mut server, 999);
    assert_eq!(server.live(), 10);
    assert_eq!(client.gone(keys[10], &waker()), Some(Gone::Reset(Reason::REFUSED_STREAM)));
    assert_eq!(client.gone(keys[9], &waker()), None);
    assert!(!client.has_room());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn bodies_of_any_size_arrive(size in 0usize..400_000, step in 1usize..40_000) {
        let (mut client, mut server) = pair();
        let key = ask(&mut client, false);
        exchange(&mut client, &mut server, step);
        let at_server = server.accept().unwrap();
        let body: Vec<u8> = (0..size).map(|n| n as u8).collect();
        prop_assert_eq!(carry((&mut client, key), (&mut server, at_server), &body, step), body);
        prop_assert_eq!((client.failed(), server.failed()), (None, None));
    }

    #[test]
    fn noise_is_refused_not_fatal(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut server = Engine::<List>::server(CONFIG);
        server.receive(tulle_h2::PREFACE, || 0);
        server.receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0], || 0);
        server.receive(&noise, || 0);
        while server.accept().is_some() {}
    }
}
