//! HTTP/1.1: what is accepted means the same however it is cut, and the same again to whoever reads what we write.

use bytes::BytesMut;
use tulle_http::h1::body::{Decoded, Decoder};
use tulle_http::h1::encode::{self, Fate, hop_by_hop};
use tulle_http::h1::parse::{self, HeadScan};
use tulle_http::h1::spelling::Case;
use tulle_http::h1::{Http10, Limits};
use tulle_http::{Framing, Headers, RequestHead, ResponseHead, To, Tunnel};

fn limits() -> Limits {
    Limits { http10: Http10::Accept, ..Limits::default() }
}

/// How long the head at the beginning is.
fn head_end(data: &[u8]) -> Option<usize> {
    let limits = limits();
    let whole = HeadScan::default().advance(data, &limits);
    for cut in [1, data.len() / 2, data.len().saturating_sub(1)] {
        let mut scan = HeadScan::default();
        let Ok(early) = scan.advance(&data[..cut.min(data.len())], &limits) else {
            assert!(whole.is_err(), "refused only when cut at {cut}");
            continue;
        };
        let late = match early {
            Some(_) => Ok(early),
            None => scan.advance(data, &limits),
        };
        assert_eq!(late.ok(), whole.ok(), "cut at {cut}");
    }
    whole.ok().flatten()
}

/// The fields that pass on, names in lower case.
pub fn passing(headers: &Headers) -> Vec<(Vec<u8>, Vec<u8>)> {
    let kept = headers.iter().filter(|(known, _, _)| !hop_by_hop(*known));
    kept.map(|(_, name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect()
}

/// Written for an upstream, an accepted request is read by our own strict parser as the same request.
pub fn same_when_forwarded(head: &RequestHead) {
    if head.headers.len() > 90 || head.headers.byte_size() > 32_000 || head.path().is_empty() {
        return;
    }
    let fate = if head.tunnel == Tunnel::No { Fate::Keep } else { Fate::Upgrade };
    let mut wire = Vec::new();
    encode::request(&mut wire, head, fate, Case::Lower);
    let end = HeadScan::default().advance(&wire, &limits());
    assert_eq!(end, Ok(Some(wire.len())), "{}", wire.escape_ascii());
    let mut again = RequestHead::default();
    parse::request(&wire, &limits(), &mut again).unwrap_or_else(|e| panic!("{e:?}: {}", wire.escape_ascii()));
    assert_eq!((again.method(), again.path(), again.authority()), (head.method(), head.path(), head.authority()));
    assert_eq!(again.framing.is_empty(), head.framing.is_empty());
    if !head.framing.is_empty() {
        assert_eq!(again.framing, head.framing);
    }
    assert_eq!(passing(&again.headers), passing(&head.headers));
}

pub fn request(data: &[u8]) {
    let Some(end) = head_end(data) else { return };
    let mut head = RequestHead::default();
    if parse::request(&data[..end], &limits(), &mut head).is_err() {
        return;
    }
    assert!(parse::method_allowed(head.method()) && parse::authority_allowed(head.authority()));
    assert!(parse::path_allowed(head.path()) || head.path() == b"*" || head.method() == b"CONNECT");
    same_when_forwarded(&head);
}

/// The first byte says what kind of request the response is for.
pub fn response(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let to = [To::Head, To::Upgrade, To::Other][usize::from(kind % 3)];
    let Some(end) = head_end(data) else { return };
    let mut head = ResponseHead::default();
    if parse::response(&data[..end], &limits(), to, &mut head).is_err() {
        return;
    }
    let switched = head.status == 101 && to == To::Upgrade;
    let mut wire = Vec::new();
    encode::response(&mut wire, &head, if switched { Fate::Upgrade } else { Fate::Keep }, Case::Lower);
    let mut again = ResponseHead::default();
    if head.headers.len() > 90 || wire.len() > 32_000 {
        return;
    }
    parse::response(&wire, &limits(), to, &mut again).unwrap_or_else(|e| panic!("{e:?}: {}", wire.escape_ascii()));
    assert_eq!((again.status, again.framing), (head.status, head.framing), "{}", wire.escape_ascii());
    assert_eq!(passing(&again.headers), passing(&head.headers));
}

#[derive(PartialEq, Eq, Debug)]
enum Read {
    Whole { behind: usize },
    Partly,
    Refused,
}

fn read(data: &[u8], step: usize) -> (Vec<u8>, Read, Headers) {
    let (mut decoder, mut trailers) = (Decoder::new(Framing::Delimited), Headers::default());
    let (mut buf, mut body, mut fed) = (BytesMut::new(), Vec::new(), 0);
    loop {
        match decoder.decode(&mut buf, &mut trailers) {
            Err(_) => return (body, Read::Refused, trailers),
            Ok(Decoded::End) => return (body, Read::Whole { behind: buf.len() + data.len() - fed }, trailers),
            Ok(Decoded::Data { data, .. }) => body.extend_from_slice(&data),
            Ok(Decoded::More) if fed == data.len() => return (body, Read::Partly, trailers),
            Ok(Decoded::More) => {
                let next = data.len().min(fed + step);
                buf.extend_from_slice(&data[fed..next]);
                fed = next;
            }
        }
    }
}

/// The first byte says in which steps the chunked body arrives.
pub fn body(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    let (body, end, trailers) = read(data, data.len().max(1));
    let (cut_body, cut_end, cut_trailers) = read(data, usize::from(*step).max(1));
    assert_eq!(end, cut_end);
    if end != Read::Refused {
        assert_eq!(body, cut_body);
        assert_eq!(passing(&trailers), passing(&cut_trailers));
    }
    assert!(body.len() <= data.len());
    let mut wire = Vec::new();
    if !body.is_empty() {
        encode::chunk_size(&mut wire, body.len());
        wire.extend_from_slice(&body);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    let (again, end, _) = read(&wire, wire.len());
    assert_eq!((again, end), (body, Read::Whole { behind: 0 }));
}
