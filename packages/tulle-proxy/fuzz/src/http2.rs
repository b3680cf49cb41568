//! HTTP/2: frames however they are cut, heads that become requests over HTTP/1.1, and field lists that come back as sent.

use std::task::Waker;

use bytes::Bytes;
use tulle_h2::{Body, Config, Engine, Key, PREFACE, Scheme};
use tulle_http::h1::encode::{self, Fate};
use tulle_http::h1::spelling::Case;
use tulle_http::h1::{Limits, parse};
use tulle_http::h2::arrived::Arrived;
use tulle_http::h2::head;
use tulle_http::{RequestHead, ResponseHead, To};

use crate::http1;

const CONFIG: Config = Config {
    stream_window: 65_535,
    connection_window: 131_070,
    max_streams: 20,
    header_list: 16_384,
    extended_connect: true,
};
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Nobody can make us hold more than the windows, a head for each stream, and what waits to be sent.
const MOST_OUTPUT: usize = 1 << 20;

fn never() -> u64 {
    0
}

fn begun(mut engine: Engine<Arrived>, first: &[u8]) -> Engine<Arrived> {
    engine.advance(engine.output().len());
    engine.receive(first, never);
    engine.receive(EMPTY_SETTINGS, never);
    engine.advance(engine.output().len());
    engine
}

/// What is said to the same frames, whole and cut.
fn cuts_do_not_matter(make: impl Fn() -> Engine<Arrived>, data: &[u8], step: usize) {
    let (mut whole, mut cut) = (make(), make());
    whole.receive(data, never);
    data.chunks(step).for_each(|part| cut.receive(part, never));
    assert_eq!(whole.failed(), cut.failed());
    assert_eq!(whole.output(), cut.output());
    assert!(whole.output().len() < MOST_OUTPUT);
}

/// The first byte says in which steps the frames arrive.
pub fn server(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    let step = usize::from(*step).max(1);
    let make = || begun(Engine::server(CONFIG), PREFACE);
    cuts_do_not_matter(make, data, step);
    let mut engine = make();
    let mut open = Vec::new();
    for part in data.chunks(step) {
        engine.receive(part, never);
        while let Some(key) = engine.accept() {
            asked(&mut engine, key);
            open.push(key);
        }
        open.retain(|key| answered(&mut engine, *key));
        engine.advance(engine.output().len().min(1000));
    }
    open.into_iter().for_each(|key| engine.release(key));
}

/// A request that is accepted is one and the same over HTTP/1.1.
fn asked(engine: &mut Engine<Arrived>, key: Key) {
    let Some(Ok((mut arrived, fault, ended))) = engine.take_head(key, Waker::noop()) else { return };
    if fault.is_some() {
        return;
    }
    let mut request = RequestHead::default();
    if head::request_in(&mut arrived, ended, &mut request).is_ok() {
        http1::same_when_forwarded(&request);
    }
    engine.recycle(arrived);
}

/// Answers a stream when its body has ended; false when nothing more is to be done with it.
fn answered(engine: &mut Engine<Arrived>, key: Key) -> bool {
    match engine.read(key, Waker::noop()) {
        Body::Wait | Body::Data { last: false, .. } => true,
        Body::Gone(_) => {
            engine.release(key);
            false
        }
        Body::Data { last: true, .. } | Body::End | Body::Trailers(_) => {
            let said = engine.respond(key, false, |block| block.status(200));
            if said.is_ok() {
                // What does not fit is dropped with the stream.
                let _room = engine.send(key, &mut Bytes::from_static(&[b'x'; 3000]), true, Waker::noop());
            }
            engine.release(key);
            false
        }
    }
}

/// The first byte says in which steps the frames arrive.
pub fn client(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    let step = usize::from(*step).max(1);
    let ask = || {
        let mut engine = begun(Engine::client(CONFIG), &[]);
        let keys = [false, true, false].map(|to_head| engine.open(to_head, true, simple));
        engine.advance(engine.output().len());
        (engine, keys)
    };
    cuts_do_not_matter(|| ask().0, data, step);
    let (mut engine, keys) = ask();
    for part in data.chunks(step) {
        engine.receive(part, never);
        for (number, key) in keys.iter().flatten().enumerate() {
            told(&mut engine, *key, if number == 1 { To::Head } else { To::Other });
        }
        engine.advance(engine.output().len().min(1000));
    }
    keys.into_iter().flatten().for_each(|key| engine.release(key));
}

fn simple(block: &mut tulle_h2::BlockWriter<'_>) {
    block.method(b"GET");
    block.scheme(Scheme::Http);
    block.path(b"/");
    block.field(b":authority", b"a");
}

/// A response that is accepted is one and the same over HTTP/1.1.
fn told(engine: &mut Engine<Arrived>, key: Key, to: To) {
    if let Some(Ok((mut arrived, fault, ended))) = engine.take_head(key, Waker::noop())
        && fault.is_none()
    {
        let mut response = ResponseHead::default();
        let known = head::response_in(&mut arrived, ended, to, &mut response).is_ok();
        if known && response.headers.len() < 90 && response.headers.byte_size() < 32_000 {
            let mut wire = Vec::new();
            encode::response(&mut wire, &response, Fate::Keep, Case::Lower);
            let mut again = ResponseHead::default();
            parse::response(&wire, &Limits::default(), to, &mut again)
                .unwrap_or_else(|e| panic!("{e:?}: {}", wire.escape_ascii()));
            assert_eq!((again.status, again.framing), (response.status, response.framing));
            assert_eq!(http1::passing(&again.headers), http1::passing(&response.headers));
        }
        engine.recycle(arrived);
    }
    while let Body::Data { last: false, .. } = engine.read(key, Waker::noop()) {}
}

/// Field lists that both sides agree about: several requests on one connection, each field's name and value led by their
/// lengths, a zero length ending a list.
pub fn hpack(data: &[u8]) {
    let mut client: Engine<Arrived> = Engine::client(CONFIG);
    let mut server: Engine<Arrived> = Engine::server(CONFIG);
    server.receive(client.output(), never);
    client.advance(client.output().len());
    client.receive(server.output(), never);
    server.advance(server.output().len());
    for list in lists(data) {
        let opened = client.open(false, true, |block| {
            simple(block);
            list.iter().for_each(|(name, value)| block.field(name, value));
        });
        let Some(key) = opened else { return };
        server.receive(client.output(), never);
        client.advance(client.output().len());
        assert_eq!(server.failed(), None);
        let arrived = server.accept().and_then(|key| server.take_head(key, Waker::noop()));
        let Some(Ok((head, fault, true))) = arrived else { panic!("the head did not arrive") };
        assert_eq!(fault, None, "{list:?}");
        let fields: Vec<_> = head.headers.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(fields, list);
        assert_eq!((head.headers.text(head.path), head.headers.text(head.authority)), (&b"/"[..], &b"a"[..]));
        client.release(key);
    }
}

type List = Vec<(Vec<u8>, Vec<u8>)>;

fn lists(data: &[u8]) -> Vec<List> {
    let (mut lists, mut list, mut rest) = (Vec::new(), List::new(), data);
    while let Some((length, after)) = rest.split_first()
        && lists.len() < 15
    {
        if *length == 0 || list.len() >= 40 {
            lists.push(std::mem::take(&mut list));
            rest = after;
            continue;
        }
        let (name, after) = after.split_at(after.len().min(usize::from(length % 32)));
        let Some((length, after)) = after.split_first() else { break };
        let (value, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        let name: Vec<u8> =
            name.iter().map(|byte| b"abcdefghijklmnopqrstuvwxyz-_.012"[usize::from(byte % 32)]).collect();
        let value: Vec<u8> =
            value.iter().copied().filter(|byte| (0x21..0x7f).contains(byte) || *byte >= 0x80).collect();
        // Fields that mean something to HTTP/2 itself.
        let special = [&b""[..], b"te", b"cookie", b"connection", b"upgrade", b"keep-alive"].contains(&&name[..])
            || [&b"content-"[..], b"transfer-", b"proxy-", b"http2-"].iter().any(|start| name.starts_with(start));
        if !special {
            list.push((name, value));
        }
    }
    lists.push(list);
    lists
}
