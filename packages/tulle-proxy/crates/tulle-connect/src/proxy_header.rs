//! PROXY protocol, sending side: an endpoint is told whose connection it gets (haproxy.org, "The PROXY protocol",
//! 2020/03/05).

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tulle_config::cluster::{Proxied, ProxyVersion};

/// Both ends of a client's connection, as the endpoint is to know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Fields of the client's own PROXY header, one behind the other.
    pub fields: Option<Rc<[u8]>>,
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY, and LOCAL: this side speaks for itself.
const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The header's bytes. Without a client (health checks) version 1 tells `own`, the new connection's ends, and version 2
/// that there is none, both as Envoy does.
pub fn header(form: &Proxied, client: Option<&Ends>, own: &Ends) -> Vec<u8> {
    match form.version {
        ProxyVersion::V1 => version_1(client.unwrap_or(own)),
        ProxyVersion::V2 => version_2(client, form),
    }
}

fn version_1(ends: &Ends) -> Vec<u8> {
    let (from, to) = (ends.source.ip().to_canonical(), ends.destination.ip().to_canonical());
    let (source, destination) = (ends.source.port(), ends.destination.port());
    match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => format!("PROXY TCP4 {from} {to} {source} {destination}\r\n").into(),
        (IpAddr::V6(_), IpAddr::V6(_)) => format!("PROXY TCP6 {from} {to} {source} {destination}\r\n").into(),
        // One line has one family.
        _ => b"PROXY UNKNOWN\r\n".to_vec(),
    }
}

/// The header's own fields, and behind them those of the client that pass on and are of other types.
fn all_fields(ends: &Ends, form: &Proxied) -> Vec<u8> {
    let mut all = form.tlvs.to_vec();
    let own: Vec<u8> = fields(&form.tlvs).map(|field| field[0]).collect();
    for field in fields(ends.fields.as_deref().unwrap_or_default()) {
        if form.pass.takes(field[0]) && !own.contains(&field[0]) {
            all.extend_from_slice(field);
        }
    }
    all
}

/// Fields of which the decoder, or the listener, has seen that they are whole.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let [_, high, low, ..] = *rest else { return None };
        let (field, behind) = rest.split_at_checked(3 + usize::from(u16::from_be_bytes([high, low])))?;
        rest = behind;
        Some(field)
    })
}

fn version_2(client: Option<&Ends>, form: &Proxied) -> Vec<u8> {
    let mut body = Vec::with_capacity(36 + form.tlvs.len());
    let pair = client.map(|ends| (ends.source.ip().to_canonical(), ends.destination.ip().to_canonical()));
    let (command, family) = match pair {
        Some((IpAddr::V4(from), IpAddr::V4(to))) => {
            body.extend_from_slice(&from.octets());
            body.extend_from_slice(&to.octets());
            (PROXY, TCP4)
        }
        Some((IpAddr::V6(from), IpAddr::V6(to))) => {
            body.extend_from_slice(&from.octets());
            body.extend_from_slice(&to.octets());
            (PROXY, TCP6)
        }
        _ => (LOCAL, 0),
    };
    if let (PROXY, Some(ends)) = (command, client) {
        body.extend_from_slice(&ends.source.port().to_be_bytes());
        body.extend_from_slice(&ends.destination.port().to_be_bytes());
        let fields = all_fields(ends, form);
        // Where a client's fields are too many for one header, the configured ones go alone.
        let fit = body.len() + fields.len() <= usize::from(u16::MAX);
        body.extend_from_slice(if fit { &fields } else { &form.tlvs });
    }
    // The decoder bounds the configured fields, so that the length fits.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [V2, &[command, family], &length.to_be_bytes(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tulle_config::UpstreamTransport;
    use tulle_config::listener::PassFields;

    fn ends(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap(), fields: None }
    }

    fn form(version: ProxyVersion, tlvs: &[u8]) -> Proxied {
        Proxied {
            version,
            tlvs: tlvs.into(),
            pass: PassFields::Only([0xe1].into()),
            inner: UpstreamTransport::Plaintext,
        }
    }

    #[test]
    fn version_1_is_a_line() {
        let (form, own) = (form(ProxyVersion::V1, &[]), ends("127.0.0.1:1", "127.0.0.1:2"));
        let text = |client: Option<&Ends>| String::from_utf8(header(&form, client, &own)).unwrap();
        let four = ends("192.0.2.1:5000", "[::ffff:192.0.2.2]:80");
        assert_eq!(text(Some(&four)), "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n");
        assert_eq!(text(Some(&ends("[2001:db8::1]:1", "[::1]:2"))), "PROXY TCP6 2001:db8::1 ::1 1 2\r\n");
        assert_eq!(text(Some(&ends("192.0.2.1:1", "[::1]:2"))), "PROXY UNKNOWN\r\n");
        assert_eq!(text(None), "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n");
    }

    #[test]
    fn a_clients_fields_pass_where_they_may() {
        let own = ends("127.0.0.1:1", "127.0.0.1:2");
        let client = Ends { fields: Some([0xe0, 0, 1, 9, 0xe1, 0, 2, 8, 8, 0xe2, 0, 0].into()), ..own.clone() };
        let sent = header(&form(ProxyVersion::V2, &[0xe0, 0, 1, 7]), Some(&client), &own);
        assert_eq!(sent[28..], [0xe0, 0, 1, 7, 0xe1, 0, 2, 8, 8]);
        let replaced = header(&form(ProxyVersion::V2, &[0xe1, 0, 0]), Some(&client), &own);
        assert_eq!(replaced[28..], [0xe1, 0, 0]);
    }

    #[test]
    fn version_2_is_binary() {
        let own = ends("127.0.0.1:1", "127.0.0.1:2");
        let form = form(ProxyVersion::V2, &[0xe0, 0, 1, 7]);
        let four = header(&form, Some(&ends("192.0.2.1:5000", "192.0.2.2:80")), &own);
        let expected = [0x21, 0x11, 0, 16, 192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 80, 0xe0, 0, 1, 7];
        assert_eq!(four, [V2, &expected].concat());
        let six = header(&form, Some(&ends("[::1]:1", "[::2]:2")), &own);
        assert_eq!((six.len(), &six[12..16]), (16 + 36 + 4, &[0x21, 0x21, 0, 40][..]));
        assert_eq!(header(&form, None, &own), [V2, &[0x20, 0, 0, 0]].concat());
    }
}
