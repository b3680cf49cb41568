//! A request's head before routing: paths and hosts made canonical, hop-by-hop fields taken off, who the client is and
//! by which id the request goes, as Envoy's connection manager does it.

use std::net::IpAddr;

use tulle_config::Hcm;
use tulle_config::hcm::{ForwardClientCert, ForwardClientCertMode, Forwarding, HostHandling, Scheme, StripPort};
use tulle_core::Rng;
use tulle_core::address::split_authority;
use tulle_http::headers::Classes;
use tulle_http::{Known, RequestHead, Tunnel};
use tulle_identity::forwarded::Forwarded;
use tulle_route::canonical::{self, Canonical};

use super::remote::{self, Detected};
use super::reply::Reply;
use crate::serve::Client;
use crate::serve::tls::TlsFacts;

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

/// Makes `head` what routing may trust, and finds out who the client is, where that is not who the connection comes from.
///
/// # Errors
/// The answer to a request that cannot be made canonical.
pub fn prepare(hcm: &Hcm, client: &Client, head: &mut RequestHead, rng: &mut Rng) -> Result<Option<IpAddr>, Reply> {
    strip_hop_by_hop(head);
    if hcm.proxy_100_continue && std::mem::take(&mut head.expect_continue) {
        // The upstream is asked, and its answer passed on.
        head.headers.push(b"expect", b"100-continue");
    }
    host(hcm.host, client, head);
    path(hcm, head)?;
    if head.headers.has(Known::XForwardedFor) {
        // The last of all addresses counts, in whichever field it stands.
        head.headers.join(b"x-forwarded-for");
    }
    let (caller, found) = match remote::detect(&hcm.forwarding, head, client.peer.ip()) {
        Detected::Rejected(status) => return Err(Reply::rejected(status)),
        Detected::Nobody { .. } if hcm.forwarding.detection.is_empty() => (caller(&hcm.forwarding, client, head), None),
        Detected::Nobody { append } => {
            if append {
                append_peer(client, head);
            }
            (Caller::Neighbour, None)
        }
        Detected::Client { address, trusted, append } => {
            if append {
                append_peer(client, head);
            }
            let internal = trusted && hcm.forwarding.internal.iter().any(|range| range.contains(address));
            (if internal { Caller::Internal } else { Caller::Neighbour }, Some(address))
        }
    };
    forwarded(hcm, client, head, caller);
    let remote = found.or_else(|| remote_told(&hcm.forwarding, head));
    client_cert(hcm, client, head);
    request_id(hcm, head, rng, caller);
    if let Some(via) = &hcm.forwarding.via {
        head.headers.append_by(b", ", b"via", via.as_bytes());
    }
    Ok(remote)
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
    let upgrade = head.tunnel.is_upgrade();
    head.headers.remove_where(|known, _, value| match known {
        Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::Http2Settings => true,
        Known::TransferEncoding => true,
        Known::Upgrade => !upgrade,
        Known::Te => !value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers")),
        _ => false,
    });
    if head.headers.has(Known::Te) {
        head.headers.set(b"te", b"trailers");
    }
}

fn host(handling: HostHandling, client: &Client, head: &mut RequestHead) {
    // CONNECT's port is part of what it asks for.
    if handling == HostHandling::default() || head.tunnel == Tunnel::Connect {
        return;
    }
    let Ok(authority) = std::str::from_utf8(head.authority()) else { return };
    let (mut name, mut port) = split_authority(authority);
    if handling.strip_trailing_dot {
        name = name.strip_suffix('.').unwrap_or(name);
    }
    let strip = match handling.strip_port {
        StripPort::Never => false,
        StripPort::Any => port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())),
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
    match canonical::path(hcm.path, head.path()) {
        Canonical::Same => {}
        Canonical::Changed(path) => head.set_path(&path),
        Canonical::Elsewhere(path) => {
            return Err(Reply::redirect(307, String::from_utf8_lossy(&path).into_owned()));
        }
        Canonical::Refused => return Err(Reply::bad_request("path_normalization_failed").closing()),
    }
    Ok(())
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
    let mut told = head.headers.all_known(Known::XForwardedFor);
    let address = match (rules.use_remote_address, told.next(), told.next()) {
        (true, None, _) => Some(client.peer.ip()),
        (false, Some(one), None) if rules.xff_num_trusted_hops == 0 && !one.contains(&b',') => {
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
fn forwarded(hcm: &Hcm, client: &Client, head: &mut RequestHead, caller: Caller) {
    let rules = &hcm.forwarding;
    if rules.use_remote_address {
        if !rules.skip_xff_append {
            append_peer(client, head);
        }
        if rules.xff_num_trusted_hops == 0 {
            head.headers.remove_known(Known::XForwardedProto);
        }
    }
    if rules.port {
        let own = rules.use_remote_address && rules.xff_num_trusted_hops == 0;
        if own || !head.headers.contains(b"x-forwarded-port") {
            head.headers.set(b"x-forwarded-port", client.local.port().to_string().as_bytes());
        }
    }
    scheme(hcm, client, head);
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

fn append_peer(client: &Client, head: &mut RequestHead) {
    let address = client.peer.ip().to_canonical().to_string();
    head.headers.append_csv(b"x-forwarded-for", address.as_bytes());
}

/// The client behind other proxies, as x-forwarded-for tells it and as far as that is trusted.
fn remote_told(rules: &Forwarding, head: &RequestHead) -> Option<IpAddr> {
    if rules.detection.is_empty() { remote::told(rules, head) } else { None }
}

/// What the client is said to have used, and what the request's own scheme is: HTTP/1 has none in origin form.
fn scheme(hcm: &Hcm, client: &Client, head: &mut RequestHead) {
    if let Some(scheme) = hcm.scheme {
        let text: &[u8] = if scheme == Scheme::Https { b"https" } else { b"http" };
        head.headers.set(b"x-forwarded-proto", text);
        head.secure_scheme = scheme == Scheme::Https;
        return;
    }
    let secure = client.tls.is_some();
    if !head.headers.has(Known::XForwardedProto) {
        head.headers.push(b"x-forwarded-proto", if secure { b"https" } else { b"http" });
    }
    if !head.scheme_given {
        head.secure_scheme = match head.headers.known(Known::XForwardedProto) {
            Some(told) if told.eq_ignore_ascii_case(b"https") => true,
            Some(told) if told.eq_ignore_ascii_case(b"http") => false,
            _ => secure,
        };
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
                            | b"x-envoy-original-path"
                            | b"x-envoy-original-host"
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
            let element = told(rules, tls);
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

/// What of the client's certificate is passed on.
fn told(rules: &ForwardClientCert, tls: &TlsFacts) -> String {
    let peer = tls.secured.peer.as_ref().map(|peer| peer.text());
    // Read for those who ask for it only: this is done for every request.
    let asked = peer
        .filter(|_| rules.chain)
        .into_iter()
        .flat_map(|leaf| std::iter::once(leaf).chain(tls.intermediates.iter().map(|each| each.text())));
    let chain: Vec<&str> = asked.map(|text| &*text.pem).collect();
    let told = Forwarded {
        by: tls.own_uri.as_deref(),
        hash: &tls.peer_hash,
        cert: peer.filter(|_| rules.cert).map(|peer| &*peer.pem),
        chain: rules.chain.then_some(&chain),
        subject: rules.subject.then_some(&*tls.subject),
        uris: peer.filter(|_| rules.uri).map(|peer| &*peer.each_uri),
        dns: peer.filter(|_| rules.dns).map(|peer| &*peer.each_dns).unwrap_or_default(),
        issuer: peer.filter(|_| rules.issuer).map(|peer| &*peer.issuer),
    };
    told.element()
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
    fn ids_are_version_4() {
        let id = uuid(&mut Rng::seeded(1));
        let text = std::str::from_utf8(&id).unwrap();
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
    }
}
