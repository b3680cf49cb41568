//! What a server does with frames that break the rules: the state machine's table, malformed heads, and floods.

mod common;

use common::{CONFIG, List, waker};
use tulle_h2::{Config, Engine, Gone, Key, Malformed, Reason};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a`.
const GET: &[u8] = b"\x82\x86\x84\x01\x01a";
const POST: &[u8] = b"\x83\x86\x84\x01\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    let mut out = vec![(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A server that has seen the preface and the client's SETTINGS.
fn server() -> Engine<List> {
    let mut engine = Engine::server(Config { max_streams: 100, ..CONFIG });
    engine.receive(tulle_h2::PREFACE, || 0);
    feed(&mut engine, SETTINGS, 0, 0, &[]);
    read(&mut engine);
    engine
}

fn feed(engine: &mut Engine<List>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    engine.receive(&frame(kind, flags, stream, payload), || 0);
}

/// (kind, stream, last four bytes) of every frame that the engine wants to send.
fn read(engine: &mut Engine<List>) -> Vec<(u8, u32, u32)> {
    let mut found = Vec::new();
    let bytes = engine.output().to_vec();
    engine.advance(bytes.len());
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let len = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let number = |b: &[u8]| b.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let payload = &rest[9..9 + len];
        found.push((rest[3], number(&rest[5..9]), number(&payload[len.saturating_sub(4)..])));
        rest = &rest[9 + len..];
    }
    found
}

fn request(engine: &mut Engine<List>, id: u32, end: bool) -> Key {
    feed(engine, HEADERS, 4 | u8::from(end), id, if end { GET } else { POST });
    engine.accept().expect("a request")
}

/// What it is, the frame's kind, flags, stream and payload, and what it is answered with.
type BadFrame = (&'static str, u8, u8, u32, &'static [u8], Reason);

#[test]
fn what_ends_the_connection() {
    let table: &[BadFrame] = &[
        ("DATA on stream 0", DATA, 0, 0, b"x", Reason::PROTOCOL_ERROR),
        ("DATA on an idle stream", DATA, 0, 7, b"x", Reason::PROTOCOL_ERROR),
        ("DATA with more padding than there is", DATA, 8, 1, b"\x05abc", Reason::PROTOCOL_ERROR),
        ("HEADERS on stream 0", HEADERS, 5, 0, GET, Reason::PROTOCOL_ERROR),
        ("HEADERS on a server's stream", HEADERS, 5, 2, GET, Reason::PROTOCOL_ERROR),
        ("HEADERS that cannot be decoded", HEADERS, 5, 3, b"\xff\xff\xff\xff\xff", Reason::COMPRESSION_ERROR),
        ("HEADERS with more padding than there is", HEADERS, 13, 3, b"\x20\x82", Reason::PROTOCOL_ERROR),
        ("HEADERS too short for a priority", HEADERS, 0x25, 3, b"\0\0", Reason::FRAME_SIZE_ERROR),
        ("HEADERS that depend on themselves", HEADERS, 0x25, 3, b"\0\0\0\x03\0\x82\x86\x84", Reason::PROTOCOL_ERROR),
        ("PRIORITY on stream 0", PRIORITY, 0, 0, &[0; 5], Reason::PROTOCOL_ERROR),
        ("PRIORITY of the wrong size", PRIORITY, 0, 9, &[0; 4], Reason::FRAME_SIZE_ERROR),
        ("RST_STREAM on stream 0", RST, 0, 0, &[0; 4], Reason::PROTOCOL_ERROR),
        ("RST_STREAM on an idle stream", RST, 0, 9, &[0; 4], Reason::PROTOCOL_ERROR),
        ("RST_STREAM of the wrong size", RST, 0, 1, &[0; 3], Reason::FRAME_SIZE_ERROR),
        ("SETTINGS on a stream", SETTINGS, 0, 1, &[], Reason::PROTOCOL_ERROR),
        ("SETTINGS of the wrong size", SETTINGS, 0, 0, &[0; 5], Reason::FRAME_SIZE_ERROR),
        ("SETTINGS acknowledged with text", SETTINGS, 1, 0, &[0; 6], Reason::FRAME_SIZE_ERROR),
        ("a push setting that is neither", SETTINGS, 0, 0, b"\0\x02\0\0\0\x02", Reason::PROTOCOL_ERROR),
        ("too large a window setting", SETTINGS, 0, 0, b"\0\x04\x80\0\0\0", Reason::FLOW_CONTROL_ERROR),
        ("too small a frame setting", SETTINGS, 0, 0, b"\0\x05\0\0\0\x01", Reason::PROTOCOL_ERROR),
        ("PUSH_PROMISE from a client", PUSH, 4, 1, &[0; 4], Reason::PROTOCOL_ERROR),
        ("PING on a stream", PING, 0, 1, &[0; 8], Reason::PROTOCOL_ERROR),
        ("PING of the wrong size", PING, 0, 0, &[0; 7], Reason::FRAME_SIZE_ERROR),
        ("GOAWAY on a stream", GOAWAY, 0, 1, &[0; 8], Reason::PROTOCOL_ERROR),
        ("GOAWAY of the wrong size", GOAWAY, 0, 0, &[0; 7], Reason::FRAME_SIZE_ERROR),
        ("WINDOW_UPDATE by nothing", WINDOW, 0, 0, &[0; 4], Reason::PROTOCOL_ERROR),
        ("WINDOW_UPDATE beyond the largest window", WINDOW, 0, 0, b"\x7f\xff\xff\xff", Reason::FLOW_CONTROL_ERROR),
        ("WINDOW_UPDATE of the wrong size", WINDOW, 0, 0, &[0; 3], Reason::FRAME_SIZE_ERROR),
        ("WINDOW_UPDATE on an idle stream", WINDOW, 0, 9, b"\0\0\0\x01", Reason::PROTOCOL_ERROR),
        ("CONTINUATION of nothing", CONTINUATION, 4, 1, GET, Reason::PROTOCOL_ERROR),
        ("a frame that is too large", DATA, 0, 1, &[0; 16_385], Reason::FRAME_SIZE_ERROR),
    ];
    for (what, kind, flags, stream, payload, reason) in table {
        let mut engine = server();
        let key = request(&mut engine, 1, false);
        feed(&mut engine, *kind, *flags, *stream, payload);
        assert_eq!(engine.failed(), Some(*reason), "{what}");
        let last = read(&mut engine).pop();
        assert_eq!(last, Some((GOAWAY, 0, reason.code())), "{what}");
        assert!(engine.is_done() && engine.cut(key) == Some(Gone::Closed), "{what}");
    }
}

#[test]
fn what_ends_the_stream() {
    let table: &[(&str, u8, u8, &[u8], Reason)] = &[
        ("WINDOW_UPDATE by nothing", WINDOW, 0, &[0; 4], Reason::PROTOCOL_ERROR),
        ("WINDOW_UPDATE beyond the largest window", WINDOW, 0, b"\x7f\xff\xff\xff", Reason::FLOW_CONTROL_ERROR),
        ("PRIORITY on itself", PRIORITY, 0, b"\0\0\0\x01\0", Reason::PROTOCOL_ERROR),
        ("trailers that do not end the stream", HEADERS, 4, b"\0\x01a\x01b", Reason::PROTOCOL_ERROR),
        ("trailers with a pseudo-header field", HEADERS, 5, b"\x84", Reason::PROTOCOL_ERROR),
        ("trailers with an upper-case name", HEADERS, 5, b"\0\x01A\x01b", Reason::PROTOCOL_ERROR),
    ];
    for (what, kind, flags, payload, reason) in table {
        let mut engine = server();
        let key = request(&mut engine, 1, false);
        feed(&mut engine, *kind, *flags, 1, payload);
        assert_eq!(engine.failed(), None, "{what}");
        assert_eq!(read(&mut engine), [(RST, 1, reason.code())], "{what}");
        assert!(matches!(engine.cut(key), Some(Gone::Malformed(_))), "{what}");
        request(&mut engine, 3, true);
    }
}

#[test]
fn frames_after_the_end() {
    // Half-closed: what follows END_STREAM ends the stream. Closed by both: HEADERS end the connection.
    for (kind, payload) in [(DATA, &b"x"[..]), (HEADERS, GET)] {
        let mut engine = server();
        request(&mut engine, 1, true);
        feed(&mut engine, kind, 5, 1, payload);
        assert_eq!(read(&mut engine), [(RST, 1, Reason::STREAM_CLOSED.code())]);
    }
    let mut engine = server();
    request(&mut engine, 1, false);
    feed(&mut engine, RST, 0, 1, &[0, 0, 0, 8]);
    feed(&mut engine, DATA, 0, 1, b"x");
    assert_eq!(read(&mut engine), [(RST, 1, Reason::STREAM_CLOSED.code())]);
    feed(&mut engine, WINDOW, 0, 1, b"\0\0\0\x01");
    assert_eq!(engine.failed(), None);
    feed(&mut engine, HEADERS, 5, 1, GET);
    assert_eq!(engine.failed(), Some(Reason::STREAM_CLOSED));
    // A number that was skipped.
    let mut engine = server();
    request(&mut engine, 5, true);
    feed(&mut engine, HEADERS, 5, 3, GET);
    assert_eq!(engine.failed(), Some(Reason::PROTOCOL_ERROR));
}

#[test]
fn what_we_reset_may_still_be_on_its_way() {
    let mut engine = server();
    let key = request(&mut engine, 1, false);
    engine.reset(key, Reason::CANCEL);
    engine.release(key);
    feed(&mut engine, DATA, 0, 1, &[0; 5000]);
    feed(&mut engine, HEADERS, 5, 1, b"\0\x01a\x01b");
    assert_eq!(engine.failed(), None);
    assert_eq!(read(&mut engine), [(RST, 1, Reason::CANCEL.code())]);
}

#[test]
fn malformed_requests_are_told_apart() {
    let field = |name: &str, value: &str| {
        let mut out = vec![0, name.len() as u8];
        out.extend_from_slice(name.as_bytes());
        out.push(value.len() as u8);
        out.extend_from_slice(value.as_bytes());
        out
    };
    let table: &[(&str, Vec<u8>, Malformed)] = &[
        ("upper case", [GET, &field("X-Upper", "1")].concat(), Malformed::Name),
        ("connection", [GET, &field("connection", "keep-alive")].concat(), Malformed::Name),
        ("te", [GET, &field("te", "gzip")].concat(), Malformed::Name),
        ("carriage return", [GET, &field("a", "b\rc")].concat(), Malformed::Value),
        ("line feed in the path", [&b"\x82\x86\x01\x01a"[..], &field(":path", "/\nx")].concat(), Malformed::Value),
        ("nul", [GET, &field("a", "b\0")].concat(), Malformed::Value),
        ("late pseudo-header", [&b"\x82\x86"[..], &field("a", "b"), b"\x84"].concat(), Malformed::Pseudo),
        ("repeated pseudo-header", [GET, b"\x84"].concat(), Malformed::Pseudo),
        ("unknown pseudo-header", [GET, &field(":who", "me")].concat(), Malformed::Pseudo),
        ("status in a request", [GET, b"\x88"].concat(), Malformed::Pseudo),
        ("no path", b"\x82\x86\x01\x01a".to_vec(), Malformed::Pseudo),
        ("empty path", [&b"\x82\x86"[..], &field(":path", "")].concat(), Malformed::Pseudo),
        ("no method", b"\x86\x84\x01\x01a".to_vec(), Malformed::Pseudo),
        ("a protocol without CONNECT", [GET, &field(":protocol", "websocket")].concat(), Malformed::Pseudo),
        ("CONNECT with a path", [&b"\x86\x84"[..], &field(":method", "CONNECT")].concat(), Malformed::Pseudo),
        ("a length that is none", [GET, &field("content-length", "-1")].concat(), Malformed::Length),
        (
            "two lengths",
            [GET, &field("content-length", "0"), &field("content-length", "0")].concat(),
            Malformed::Length,
        ),
        ("a length without a body", [GET, &field("content-length", "5")].concat(), Malformed::Length),
    ];
    for (what, block, fault) in table {
        let mut engine = server();
        feed(&mut engine, HEADERS, 5, 1, block);
        let key = engine.accept().expect(what);
        let (_, found, _) = engine.take_head(key, &waker()).unwrap().unwrap();
        assert_eq!((found, engine.failed()), (Some(*fault), None), "{what}");
    }
}

#[test]
fn bodies_that_are_not_as_long_as_declared() {
    let head = [POST, b"\0\x0econtent-length\x015"].concat();
    for (what, parts) in [("short", vec![(1, &b"abc"[..])]), ("long", vec![(0, b"abc"), (1, b"def")])] {
        let mut engine = server();
        feed(&mut engine, HEADERS, 4, 1, &head);
        let key = engine.accept().unwrap();
        for (flags, data) in parts {
            feed(&mut engine, DATA, flags, 1, data);
        }
        assert_eq!(engine.cut(key), Some(Gone::Malformed(Malformed::Length)), "{what}");
        assert_eq!(read(&mut engine), [(RST, 1, Reason::PROTOCOL_ERROR.code())], "{what}");
    }
}

#[test]
fn a_peer_that_sends_beyond_its_window_is_cut_off() {
    let mut engine = server();
    let key = request(&mut engine, 1, false);
    for _ in 0..4 {
        feed(&mut engine, DATA, 0, 1, &[0; 16_384]);
    }
    assert_eq!(engine.cut(key), Some(Gone::Malformed(Malformed::Sequence)));
    assert_eq!(read(&mut engine), [(RST, 1, Reason::FLOW_CONTROL_ERROR.code())]);
}

#[test]
fn a_list_that_grows_by_decoding_is_counted_as_decoded() {
    let mut engine = server();
    // One entry of 4000 bytes, then a byte each for it.
    let mut bomb = [GET, b"\x40\x01a\x7f\xa1\x1e"].concat();
    bomb.extend_from_slice(&[b'v'; 4000]);
    bomb.extend_from_slice(&[0xbe; 12_000]);
    feed(&mut engine, HEADERS, 5, 1, &bomb);
    let key = engine.accept().unwrap();
    let (head, fault, _) = engine.take_head(key, &waker()).unwrap().unwrap();
    assert_eq!(fault, Some(Malformed::TooLarge));
    assert!(head.0.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() <= CONFIG.header_list as usize);
    request(&mut engine, 3, true);
}

/// Feeds until the engine gives up, reading what it sends after every `pause` frames.
fn flood(mut next: impl FnMut(u32) -> Vec<u8>, pause: u32) -> (Option<Reason>, usize) {
    let mut engine = server();
    request(&mut engine, 1, false);
    let mut largest = 0;
    for n in 0..20_000 {
        engine.receive(&next(n), || 0);
        if let Some(key) = engine.accept() {
            engine.release(key);
        }
        largest = largest.max(engine.output().len());
        if n % pause == 0 {
            read(&mut engine);
        }
    }
    (engine.failed(), largest)
}

#[test]
fn floods_end_the_connection() {
    type Next = Box<dyn FnMut(u32) -> Vec<u8>>;
    let opened = |n: u32| 3 + 2 * n;
    let table: Vec<(&str, Next)> = vec![
        ("PING", Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("SETTINGS", Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        ("PRIORITY", Box::new(|_| frame(PRIORITY, 0, 1, &[0; 5]))),
        ("WINDOW_UPDATE", Box::new(|_| frame(WINDOW, 0, 1, b"\0\0\0\x01"))),
        ("empty DATA", Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("unknown frames", Box::new(|_| frame(77, 0, 0, &[]))),
        (
            "rapid reset",
            Box::new(move |n| [frame(HEADERS, 5, opened(n), GET), frame(RST, 0, opened(n), &[0, 0, 0, 8])].concat()),
        ),
        (
            "resets that the server is made to send",
            Box::new(move |n| [frame(HEADERS, 4, opened(n), POST), frame(WINDOW, 0, opened(n), &[0; 4])].concat()),
        ),
        ("CONTINUATION", Box::new(|n| frame(if n == 0 { HEADERS } else { CONTINUATION }, 0, 3, b"\0\x01a\x01b"))),
        ("empty CONTINUATION", Box::new(|n| frame(if n == 0 { HEADERS } else { CONTINUATION }, 0, 3, b""))),
    ];
    for (what, mut next) in table {
        for pause in [1, 1 << 20] {
            let (failed, largest) = flood(&mut next, pause);
            assert_eq!(failed, Some(Reason::ENHANCE_YOUR_CALM), "{what}");
            assert!(largest < 20_000, "{what}: {largest}");
        }
    }
}

/// A stream that is opened and at once comes to nothing.
type Spoilt = fn(u32) -> Vec<u8>;

const SPOILT: [(&str, Spoilt); 2] = [
    ("reset by the client", |id| [frame(HEADERS, 5, id, GET), frame(RST, 0, id, &[0, 0, 0, 8])].concat()),
    ("reset by us, provoked", |id| [frame(HEADERS, 4, id, POST), frame(WINDOW, 0, id, &[0; 4])].concat()),
];

/// How many streams are opened before the connection is ended, and how many of them anybody gets to see.
fn spoil(next: Spoilt, together: usize, clock: fn() -> u64) -> (usize, usize) {
    let mut engine = server();
    let (mut opened, mut seen) = (0, 0);
    while engine.failed().is_none() {
        let batch: Vec<u8> = (0..together).flat_map(|n| next(1 + 2 * (opened + n) as u32)).collect();
        engine.receive(&batch, clock);
        opened += together;
        while let Some(key) = engine.accept() {
            engine.release(key);
            seen += 1;
        }
        assert!(opened < 20_000, "it is never ended");
    }
    (opened, seen)
}

#[test]
fn what_a_rapid_reset_costs_is_bounded_however_it_is_sent() {
    for (what, next) in SPOILT {
        assert_eq!(spoil(next, 1, || 0).0, 201, "{what}: two hundred are borne");
        assert_eq!(spoil(next, 1, || 1000).0, 251, "{what}: and fifty in each second");
        // In one read, of which nothing is looked at behind the end.
        let (_, seen) = spoil(next, 10_000, || 0);
        assert!(seen <= 201, "{what}: {seen} requests were made of it");
        let mut engine = server();
        let all: Vec<u8> = (0..10_000).flat_map(|n| next(1 + 2 * n)).collect();
        engine.receive(&all, || 0);
        let sent = read(&mut engine);
        assert_eq!(sent.last().map(|(kind, ..)| *kind), Some(GOAWAY), "{what}");
        assert!(sent.len() <= 202, "{what}: {} frames were sent", sent.len());
        while let Some(key) = engine.accept() {
            engine.release(key);
        }
        engine.receive(&all, || 0);
        assert!(read(&mut engine).is_empty() && engine.accept().is_none(), "{what}");
    }
}

#[test]
fn a_useful_client_may_do_all_of_it_now_and_then() {
    let mut engine = server();
    for n in 0..5000 {
        let id = 1 + 2 * n;
        let key = request(&mut engine, id, false);
        feed(&mut engine, DATA, 0, id, &[]);
        feed(&mut engine, DATA, 1, id, b"x");
        feed(&mut engine, WINDOW, 0, id, b"\0\0\0\x01");
        feed(&mut engine, PRIORITY, 0, id, &[0; 5]);
        engine.respond(key, n % 3 == 0, |block| block.status(200)).unwrap();
        if n % 3 != 0 {
            feed(&mut engine, RST, 0, id, &[0, 0, 0, 8]);
        }
        engine.release(key);
        read(&mut engine);
        assert_eq!(engine.failed(), None, "{n}");
    }
}
