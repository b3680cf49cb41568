//! Heads between HTTP/2's form and ours.

use tulle_h2::{BlockWriter, Scheme};

use super::arrived::Arrived;
use crate::h1::Refused;
use crate::h1::body::trailer_allowed;
use crate::h1::encode::hop_by_hop;
use crate::h1::parse;
use crate::head::{Framing, RequestHead, ResponseHead, To, Tunnel, Version, bodiless};
use crate::headers::{Headers, Known};

/// Takes a request's head over from what was received, leaving `out`'s memory there. `ended`: there is no body.
///
/// # Errors
/// When the head is well-formed HTTP/2 but no request that we serve; `out` holds it all the same, for the log.
pub fn request_in(arrived: &mut Arrived, ended: bool, out: &mut RequestHead) -> Result<(), Refused> {
    let Arrived { method, path, authority, has_authority, secure, protocol, .. } = *arrived;
    let headers = std::mem::take(&mut arrived.headers);
    out.clear();
    std::mem::swap(&mut arrived.headers, &mut out.headers);
    out.version = Version::Http2;
    out.secure_scheme = secure;
    out.scheme_told = true;
    let protocol = protocol.map(|span| headers.text(span).to_vec());
    out.set_list(headers, (method, path, authority));
    if !parse::method_allowed(out.method()) {
        return Err(Refused::Method);
    }
    if !has_authority {
        let mut hosts = out.headers.known_spans(Known::Host);
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Refused::Host) };
        drop(hosts);
        out.set_authority_span(host);
    }
    if !parse::authority_allowed(out.authority()) {
        return Err(Refused::Host);
    }
    out.headers.remove_known(Known::Host);
    let asterisk = out.path() == b"*" && out.method() == b"OPTIONS";
    set_tunnel(protocol.as_deref(), out);
    let connect = out.tunnel == Tunnel::Connect;
    if connect && !parse::connect_allowed(out.authority()) {
        return Err(Refused::Host);
    }
    if !connect && !asterisk && !parse::path_allowed(out.path()) {
        return Err(Refused::Target);
    }
    let awaits = out.headers.known(Known::Expect).is_some_and(|expect| expect.eq_ignore_ascii_case(b"100-continue"));
    if awaits {
        out.expect_continue = true;
        out.headers.remove_known(Known::Expect);
    }
    // What follows a request to switch is the tunnel's.
    out.framing = if out.tunnel == Tunnel::No { framing(&out.headers, ended)? } else { Framing::None };
    Ok(())
}

/// Extended CONNECT (RFC 8441) becomes what it means: a GET that asks for an upgrade.
fn set_tunnel(protocol: Option<&[u8]>, out: &mut RequestHead) {
    if out.method() != b"CONNECT" {
        return;
    }
    match protocol {
        Some(protocol) => {
            let websocket = protocol.eq_ignore_ascii_case(b"websocket");
            out.tunnel = if websocket { Tunnel::WebSocket } else { Tunnel::Other };
            out.set_method(b"GET");
            out.headers.push(b"upgrade", protocol);
        }
        None => out.tunnel = Tunnel::Connect,
    }
}

/// Takes a response's head over from what was received, leaving `out`'s memory there.
///
/// # Errors
/// When its length is given twice.
pub fn response_in(arrived: &mut Arrived, ended: bool, to: To, out: &mut ResponseHead) -> Result<(), Refused> {
    out.clear();
    out.version = Version::Http2;
    out.status = arrived.status;
    std::mem::swap(&mut arrived.headers, &mut out.headers);
    out.framing = if !matches!(to, To::Upgrade | To::Connect) && bodiless(out.status, to) {
        Framing::None
    } else if ended {
        // An empty body of declared length keeps saying so over HTTP/1.
        Framing::Length(0)
    } else {
        framing(&out.headers, ended)?
    };
    Ok(())
}

fn framing(headers: &Headers, ended: bool) -> Result<Framing, Refused> {
    if ended {
        return Ok(Framing::None);
    }
    match headers.known(Known::ContentLength) {
        None => Ok(Framing::Delimited),
        Some(text) => parse::decimal(text).map(Framing::Length).ok_or(Refused::Framing),
    }
}

/// Whether a field passes from HTTP/1 to HTTP/2.
fn passes(known: Known, value: &[u8]) -> bool {
    match known {
        Known::ContentLength => true,
        Known::Te => value == b"trailers",
        _ => !hop_by_hop(known),
    }
}

/// Writes a request's head.
pub fn request_out(head: &RequestHead, block: &mut BlockWriter<'_>) {
    let tunnel = head.tunnel != Tunnel::No;
    block.method(if tunnel { b"CONNECT" } else { head.method() });
    let protocol = head.headers.known(Known::Upgrade).filter(|_| head.tunnel.is_upgrade());
    if !tunnel || protocol.is_some() {
        block.scheme(if head.secure_scheme { Scheme::Https } else { Scheme::Http });
        block.path(head.path());
    }
    block.field(b":authority", head.authority());
    if let Some(protocol) = protocol {
        block.field(b":protocol", protocol);
    }
    for (known, name, value) in head.headers.iter() {
        if passes(known, value) && !(tunnel && known == Known::ContentLength) {
            block.field(name, value);
        }
    }
}

/// Writes a response's head. A switch of protocols is answered with 200 (RFC 8441 §5).
pub fn response_out(head: &ResponseHead, block: &mut BlockWriter<'_>) {
    block.status(if head.status == 101 { 200 } else { head.status });
    for (known, name, value) in head.headers.iter() {
        // RFC 9110 §8.6: a 204 says nothing of a length.
        if passes(known, value) && !(head.status == 204 && known == Known::ContentLength) {
            block.field(name, value);
        }
    }
}

pub fn trailers_in(arrived: Arrived) -> Headers {
    let mut list = arrived.headers;
    list.remove_where(|_, name, _| !trailer_allowed(name));
    list
}

pub fn trailers_out(list: &Headers, block: &mut BlockWriter<'_>) {
    for (known, name, value) in list.iter() {
        if passes(known, value) && trailer_allowed(name) {
            block.field(name, value);
        }
    }
}
