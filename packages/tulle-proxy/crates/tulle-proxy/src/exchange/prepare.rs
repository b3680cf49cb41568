//! A request's head before routing: paths and hosts made canonical, hop-by-hop fields taken off, who the client is and
//! by which id the request goes, as Envoy's connection manager does it.

use tulle_config::Hcm;
use tulle_config::hcm::{EscapedSlashes, ForwardClientCertMode, Forwarding, HostHandling, StripPort};
use tulle_core::Rng;
use tulle_core::address::split_authority;
use tulle_http::headers::Classes;
use tulle_http::{Known, RequestHead, Tunnel};

use super::reply::Reply;
use crate::serve::Client;

/// Fields that only a trusted neighbour may set.
const INTERNAL: [&[u8]; 14] = [
    b"x-envoy-internal",
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retriable-header-names",
    b"x-envoy-retry-on",
    b"x-envoy-retry-grpc-on",
    b"x-envoy-max-retries",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-upstream-rq-timeout-ms",
    b"x-envoy-upstream-rq-per-try-timeout-ms",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-force-trace",
    b"x-envoy-ip-tags",
    b"x-envoy-original-url",
    b"x-envoy-hedge-on-per-try-timeout",
];

/// What may have to be taken off.
const OF_CONNECTION: Classes = Classes::of(&[
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Http2Settings,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::Te,
]);

/// Makes `head` what routing may trust.
///
/// # Errors
/// The answer to a request that cannot be made canonical.
pub fn prepare(hcm: &Hcm, client: &Client, head: &mut RequestHead, rng: &mut Rng) -> Result<(), Reply> {
    strip_hop_by_hop(head);
    host(hcm.host, client, head);
    path(hcm, head)?;
    let caller = caller(&hcm.forwarding, client, head);
    forwarded(&hcm.forwarding, client, head, caller);
    client_cert(hcm, client, head);
    request_id(hcm, head, rng, caller);
    if let Some(via) = &hcm.forwarding.via {
        head.headers.append_csv(b"via", via.as_bytes());
    }
    Ok(())
}

/// Takes off what belongs to the client's connection, and what it nominates as such, first of all: nothing set later
/// can be nominated away.
fn strip_hop_by_hop(head: &mut RequestHead) {
    if !head.headers.had(OF_CONNECTION) {
        return;
    }
    if head.headers.has(Known::Connection) {
        let nominated: Vec<Vec<u8>> = head
            .headers
            .all_known(Known::Connection)
            .flat_map(|value| value.split(|b| *b == b','))
            .map(|token| token.trim_ascii().to_ascii_lowercase())
            .filter(|token| {
                !matches!(&token[..], b"" | b"close" | b"keep-alive" | b"upgrade" | b"te" | b"content-length")
            })
            .collect();
        head.headers.remove_where(|_, name, _| nominated.iter().any(|n| n == name));
    }
    let tunnel = head.tunnel != Tunnel::No;
    head.headers.remove_where(|known, _, value| match known {
        Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::Http2Settings => true,
        Known::TransferEncoding => true,
        Known::Upgrade => !tunnel,
        Known::Te => !value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers")),
        _ => false,
    });
    if head.headers.has(Known::Te) {
        head.headers.set(b"te", b"trailers");
    }
}

fn host(handling: HostHandling, client: &Client, head: &mut RequestHead) {
    if handling == HostHandling::default() {
        return;
    }
    let Ok(authority) = std::str::from_utf8(head.authority()) else { return };
    let (mut name, mut port) = split_authority(authority);
    if handling.strip_trailing_dot {
        name = name.strip_suffix('.').unwrap_or(name);
    }
    let strip = match handling.strip_port {
        StripPort::Never => false,
        StripPort::Any => true,
        StripPort::Matching => port == Some(&client.local.port().to_string()),
    };
    if strip {
        port = None;
    }
    let rebuilt = match port {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    };
    if rebuilt.as_bytes() != head.authority() {
        head.set_authority(rebuilt.as_bytes());
    }
}

/// Normalizes; what comes out is authorized, routed and forwarded as it is.
pub fn path(hcm: &Hcm, head: &mut RequestHead) -> Result<(), Reply> {
    let full = head.path();
    if full == b"*" || full.is_empty() {
        return Ok(());
    }
    let end = full.iter().position(|b| *b == b'?').unwrap_or(full.len());
    let (path, query) = full.split_at(end);
    if is_plain(path) {
        return Ok(());
    }
    let mut made = path.to_vec();
    match hcm.path.escaped_slashes {
        EscapedSlashes::KeepUnchanged => {}
        EscapedSlashes::Reject if has_escaped_slash(&made) => {
            return Err(Reply::bad_request("path_normalization_failed"));
        }
        EscapedSlashes::Reject => {}
        EscapedSlashes::UnescapeAndRedirect if has_escaped_slash(&made) => {
            let location = [&normalized(hcm, unescape_slashes(&made))?, query].concat();
            return Err(Reply::redirect(307, String::from_utf8_lossy(&location).into_owned()));
        }
        EscapedSlashes::UnescapeAndRedirect => {}
        EscapedSlashes::UnescapeAndForward => made = unescape_slashes(&made),
    }
    let made = normalized(hcm, made)?;
    if made != path {
        let full = [&made, query].concat();
        head.set_path(&full);
    }
    Ok(())
}

/// Nothing in it that normalization, merging or unescaping could change: nearly every path.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    for byte in path {
        if matches!(byte, b'%' | b'\\') || (after_slash && matches!(byte, b'/' | b'.')) {
            return false;
        }
        after_slash = *byte == b'/';
    }
    true
}

fn normalized(hcm: &Hcm, path: Vec<u8>) -> Result<Vec<u8>, Reply> {
    let mut path = path;
    if hcm.path.normalize {
        path = decode_unreserved(&path);
        if path.contains(&b'\\') {
            path.iter_mut().filter(|b| **b == b'\\').for_each(|b| *b = b'/');
        }
        path = remove_dots(&path);
    }
    if hcm.path.merge_slashes {
        path.dedup_by(|b, a| *a == b'/' && *b == b'/');
    }
    Ok(path)
}

fn has_escaped_slash(path: &[u8]) -> bool {
    path.windows(3).any(is_escaped_slash)
}

fn is_escaped_slash(w: &[u8]) -> bool {
    w.eq_ignore_ascii_case(b"%2f") || w.eq_ignore_ascii_case(b"%5c")
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match path.get(at..at + 3) {
            Some(w) if is_escaped_slash(w) => {
                out.push(if w[1] == b'2' { b'/' } else { b'\\' });
                at += 3;
            }
            _ => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}

/// Decodes percent-encoded unreserved characters (RFC 3986 §6.2.2.2): `%2e%2e` is `..`.
fn decode_unreserved(path: &[u8]) -> Vec<u8> {
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let decoded = match path.get(at..at + 3) {
            Some(&[b'%', high, low]) => hex(high).zip(hex(low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match decoded {
            Some(b) if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => {
                out.push(b);
                at += 3;
            }
            _ => {
                out.push(path[at]);
                at += 1;
            }
        }
    }
    out
}

/// Removes dot segments (RFC 3986 §5.2.4).
fn remove_dots(path: &[u8]) -> Vec<u8> {
    if !path.windows(2).any(|w| w == b"/.") {
        return path.to_vec();
    }
    let mut out: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').skip(1).collect();
    let last = segments.len() - 1;
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            b"." | b".." => {
                if *segment == b".." {
                    out.pop();
                }
                if at == last {
                    out.push(b"");
                }
            }
            other => out.push(other),
        }
    }
    let mut made = Vec::with_capacity(path.len());
    for segment in &out {
        made.push(b'/');
        made.extend_from_slice(segment);
    }
    if made.is_empty() { b"/".to_vec() } else { made }
}

/// How far a caller is trusted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// By a configured internal address.
    Internal,
    /// At an edge, by any other address.
    Outside,
    /// Behind another proxy, which said what is to be known.
    Neighbour,
}

/// As Envoy's `ConnectionManagerUtility`: only a caller that came through no other proxy, or through exactly one where
/// the connection's own address does not count, is looked up among the internal addresses.
fn caller(rules: &Forwarding, client: &Client, head: &RequestHead) -> Caller {
    let told = head.headers.known(Known::XForwardedFor);
    let address = match (rules.use_remote_address, told) {
        (true, None) => Some(client.peer.ip()),
        (false, Some(one)) if rules.xff_num_trusted_hops == 0 && !one.contains(&b',') => {
            std::str::from_utf8(one.trim_ascii()).ok().and_then(|text| text.parse().ok())
        }
        _ => None,
    };
    if address.is_some_and(|address| rules.internal.iter().any(|range| range.contains(address))) {
        Caller::Internal
    } else if rules.use_remote_address {
        Caller::Outside
    } else {
        Caller::Neighbour
    }
}

/// x-forwarded-for, x-forwarded-proto and the internal fields (Envoy's `ConnectionManagerUtility`).
fn forwarded(rules: &Forwarding, client: &Client, head: &mut RequestHead, caller: Caller) {
    if rules.use_remote_address {
        if !rules.skip_xff_append {
            let address = client.peer.ip().to_canonical().to_string();
            head.headers.append_csv(b"x-forwarded-for", address.as_bytes());
        }
        if rules.xff_num_trusted_hops == 0 {
            head.headers.remove_known(Known::XForwardedProto);
        }
    }
    if !head.headers.has(Known::XForwardedProto) {
        let scheme: &[u8] = if client.tls.is_some() { b"https" } else { b"http" };
        head.headers.push(b"x-forwarded-proto", scheme);
    }
    if caller == Caller::Internal {
        head.headers.set(b"x-envoy-internal", b"true");
        return;
    }
    let edge = caller == Caller::Outside;
    if head.headers.had(Classes::of(&[Known::Internal])) {
        drop_internal(head, caller);
    }
    if edge {
        let address = super::remote::told(rules, head).unwrap_or(client.peer.ip().to_canonical());
        head.headers.set(b"x-envoy-external-address", address.to_string().as_bytes());
    }
}

/// Takes off what only a trusted neighbour may say.
fn drop_internal(head: &mut RequestHead, caller: Caller) {
    let edge = caller == Caller::Outside;
    head.headers.remove_where(|known, name, _| {
        known == Known::Internal
            && (INTERNAL.contains(&name)
                || name == b"x-envoy-internal"
                || (edge
                    && matches!(
                        name,
                        b"x-envoy-decorator-operation"
                            | b"x-envoy-downstream-service-cluster"
                            | b"x-envoy-downstream-service-node"
                    )))
    });
}

/// x-forwarded-client-cert, by the connection manager's mode.
fn client_cert(hcm: &Hcm, client: &Client, head: &mut RequestHead) {
    let rules = &hcm.forwarding.client_cert;
    let tls = client.tls.as_ref().filter(|tls| tls.peer_verified);
    match (rules.mode, tls) {
        (ForwardClientCertMode::AlwaysForwardOnly, _) | (ForwardClientCertMode::ForwardOnly, Some(_)) => {}
        (ForwardClientCertMode::AppendForward | ForwardClientCertMode::SanitizeSet, Some(tls)) => {
            let mut element = Vec::new();
            if let Some(own) = &tls.own_uri {
                element.push(format!("By={own}"));
            }
            element.push(format!("Hash={}", tls.peer_hash));
            if rules.subject {
                element.push(format!("Subject=\"{}\"", tls.subject));
            }
            if rules.uri {
                element.push(format!("URI={}", tls.uri_san.as_deref().unwrap_or_default()));
            }
            let element = element.join(";");
            if rules.mode == ForwardClientCertMode::AppendForward {
                head.headers.append_csv(b"x-forwarded-client-cert", element.as_bytes());
            } else {
                head.headers.set(b"x-forwarded-client-cert", element.as_bytes());
            }
        }
        _ => {
            head.headers.remove(b"x-forwarded-client-cert");
        }
    }
}

fn request_id(hcm: &Hcm, head: &mut RequestHead, rng: &mut Rng, caller: Caller) {
    if !hcm.request_id.generate {
        return;
    }
    let trusted = caller != Caller::Outside;
    let keep = head.headers.has(Known::XRequestId) && (trusted || hcm.request_id.preserve_external);
    if !keep {
        head.headers.set(b"x-request-id", &uuid(rng));
    }
}

/// A random UUID (version 4).
fn uuid(rng: &mut Rng) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    /// Where the digits of each byte stand.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let mut out = [b'-'; 36];
    for (byte, at) in bits.to_be_bytes().into_iter().zip(PLACES) {
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 15)];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_go_and_normalizing_twice_changes_nothing() {
        for (path, expected) in [
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/%2e%2e/x", "/x"),
            ("/a/%2E%2e/%41", "/A"),
            ("/a%2fb", "/a%2fb"),
            ("/.hidden/..x", "/.hidden/..x"),
        ] {
            let once = remove_dots(&decode_unreserved(path.as_bytes()));
            assert_eq!(String::from_utf8_lossy(&once), expected);
            assert_eq!(remove_dots(&decode_unreserved(&once)), once);
        }
    }

    #[test]
    fn ids_are_version_4() {
        let id = uuid(&mut Rng::seeded(1));
        let text = std::str::from_utf8(&id).unwrap();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
    }
}
