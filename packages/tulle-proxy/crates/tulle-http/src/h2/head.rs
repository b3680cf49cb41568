//! Heads between our form and the `http` crate's, which the `h2` crate speaks.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

use crate::h1::Refused;
use crate::h1::body::trailer_allowed;
use crate::h1::encode::hop_by_hop;
use crate::h1::parse;
use crate::head::{Framing, RequestHead, ResponseHead, To, Tunnel, Version, bodiless};
use crate::headers::{Headers, Known};

/// Reads a request's head from what h2 received. `ended`: there is no body.
pub fn request_in(parts: &http::request::Parts, ended: bool, out: &mut RequestHead) -> Result<(), Refused> {
    out.clear();
    out.version = Version::Http2;
    copy_in(&parts.headers, &mut out.headers)?;
    let method = parts.method.as_str().as_bytes();
    if !parse::method_allowed(method) {
        return Err(Refused::Method);
    }
    out.set_method(method);
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes().to_vec(),
        None => one_host(&out.headers)?,
    };
    if !parse::authority_allowed(&authority) {
        return Err(Refused::Host);
    }
    out.set_authority(&authority);
    out.headers.remove_known(Known::Host);
    out.secure_scheme = parts.uri.scheme() == Some(&Scheme::HTTPS);
    set_tunnel(parts, out);
    let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str).as_bytes();
    let plain_connect = out.tunnel == Tunnel::Other && path.is_empty();
    let asterisk = path == b"*" && method == b"OPTIONS";
    if !plain_connect && !asterisk && !parse::path_allowed(path) {
        return Err(Refused::Target);
    }
    out.set_path(path);
    out.framing = framing(&out.headers, ended)?;
    Ok(())
}

/// The one Host of a request without `:authority`.
fn one_host(headers: &Headers) -> Result<Vec<u8>, Refused> {
    let mut all = headers.all_known(Known::Host);
    match (all.next(), all.next()) {
        (Some(host), None) => Ok(host.to_vec()),
        _ => Err(Refused::Host),
    }
}

/// Extended CONNECT (RFC 8441) becomes what it means: a GET that asks for an upgrade.
fn set_tunnel(parts: &http::request::Parts, out: &mut RequestHead) {
    if parts.method != Method::CONNECT {
        return;
    }
    match parts.extensions.get::<h2::ext::Protocol>() {
        Some(protocol) => {
            let websocket = protocol.as_str().eq_ignore_ascii_case("websocket");
            out.tunnel = if websocket { Tunnel::WebSocket } else { Tunnel::Other };
            out.set_method(b"GET");
            out.headers.push(b"upgrade", protocol.as_str().as_bytes());
        }
        None => out.tunnel = Tunnel::Other,
    }
}

/// Reads a response's head from what h2 received.
pub fn response_in(parts: &http::response::Parts, ended: bool, to: To, out: &mut ResponseHead) -> Result<(), Refused> {
    out.clear();
    out.version = Version::Http2;
    out.status = parts.status.as_u16();
    copy_in(&parts.headers, &mut out.headers)?;
    out.framing = if to != To::Upgrade && bodiless(out.status, to) {
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
    let mut lengths = headers.all_known(Known::ContentLength);
    match (lengths.next(), lengths.next(), ended) {
        (_, Some(_), _) => Err(Refused::Framing),
        (_, None, true) => Ok(Framing::None),
        (None, None, false) => Ok(Framing::Delimited),
        (Some(text), None, false) => parse::decimal(text).map(Framing::Length).ok_or(Refused::Framing),
    }
}

/// Cookie crumbs (RFC 9113 §8.2.3) are joined again; everything else is copied.
fn copy_in(map: &HeaderMap, out: &mut Headers) -> Result<(), Refused> {
    let crumbs = map.get_all(http::header::COOKIE).iter().count();
    for (name, value) in map {
        let known = Known::of(name.as_str().as_bytes());
        if hop_by_hop(known) && !matches!(known, Known::ContentLength | Known::Host) {
            return Err(Refused::Syntax);
        }
        if known != Known::Cookie || crumbs <= 1 {
            out.push(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if crumbs > 1 {
        let all: Vec<&[u8]> = map.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        out.push(b"cookie", &all.join(&b"; "[..]));
    }
    Ok(())
}

/// Fields without those that HTTP/2 does not know; values share one copy of the text.
fn copy_out(headers: &Headers, keep: impl Fn(Known, &[u8]) -> bool) -> (HeaderMap, Bytes) {
    let text = Bytes::copy_from_slice(headers.all_text());
    let mut map = HeaderMap::with_capacity(headers.len());
    for (known, name, value) in headers.spans() {
        let bytes = &text[name.range()];
        let te = known == Known::Te && &text[value.range()] != b"trailers";
        if te || !keep(known, bytes) {
            continue;
        }
        // Both were checked when they were received; a value set by configuration was checked when it was decoded.
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(bytes), HeaderValue::from_maybe_shared(text.slice(value.range())))
        else {
            continue;
        };
        map.append(name, value);
    }
    (map, text)
}

/// Whether a field passes from HTTP/1 to HTTP/2.
fn passes(known: Known) -> bool {
    !hop_by_hop(known) || known == Known::ContentLength
}

/// A request's head for h2; `https` chooses `:scheme`.
pub fn request_out(head: &RequestHead, scheme: Scheme) -> Result<Request<()>, Refused> {
    let (headers, text) = copy_out(&head.headers, |known, _| passes(known));
    let (method, path, authority) = head.line_spans();
    let tunnel = head.tunnel != Tunnel::No;
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme);
    let authority = Authority::from_maybe_shared(text.slice(authority.range())).map_err(|_| Refused::Host)?;
    uri.authority = Some(authority);
    let path = PathAndQuery::from_maybe_shared(text.slice(path.range())).map_err(|_| Refused::Target)?;
    uri.path_and_query = Some(path);
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Refused::Target)?;
    *request.method_mut() = if tunnel {
        Method::CONNECT
    } else {
        Method::from_bytes(&text[method.range()]).map_err(|_| Refused::Method)?
    };
    *request.headers_mut() = headers;
    if tunnel {
        let protocol = head.headers.known(Known::Upgrade).and_then(|v| std::str::from_utf8(v).ok());
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol.ok_or(Refused::Syntax)?));
        request.headers_mut().remove(http::header::CONTENT_LENGTH);
    }
    Ok(request)
}

/// A response's head for h2. A switch of protocols is answered with 200 (RFC 8441 §5).
pub fn response_out(head: &ResponseHead) -> Result<Response<()>, Refused> {
    let status = if head.status == 101 { 200 } else { head.status };
    let (headers, _) = copy_out(&head.headers, |known, _| passes(known));
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Refused::Syntax)?;
    *response.headers_mut() = headers;
    Ok(response)
}

pub fn trailers_in(map: &HeaderMap) -> Headers {
    let mut list = Headers::default();
    for (name, value) in map.iter().filter(|(name, _)| trailer_allowed(name.as_str().as_bytes())) {
        list.push(name.as_str().as_bytes(), value.as_bytes());
    }
    list
}

pub fn trailers_out(list: &Headers) -> HeaderMap {
    copy_out(list, |known, name| passes(known) && trailer_allowed(name)).0
}
