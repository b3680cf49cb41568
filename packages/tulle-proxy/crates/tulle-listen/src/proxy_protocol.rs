//! PROXY protocol versions 1 and 2, receiving side (haproxy.org, "The PROXY protocol", 2020/03/05).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tulle_config::listener::{PassFields, ProxyProtocol};

/// What the first bytes of a connection are, as far as PROXY protocol is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// More bytes are needed.
    Partial,
    /// There is no header.
    Absent,
    Malformed,
    Present {
        /// Bytes that the header takes.
        length: usize,
        /// Source and destination; `None` for LOCAL and UNKNOWN connections, which keep the socket's addresses.
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
}

const V1: &[u8] = b"PROXY ";
/// The longest possible version 1 line, CRLF included.
const V1_MAX: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD: usize = 16;

/// Looks at the bytes received so far, from the first one on.
pub fn parse(bytes: &[u8]) -> ProxyHeader {
    parse_for(bytes, &ProxyProtocol::default())
}

/// The same for a listener that does not take every version.
pub fn parse_for(bytes: &[u8], taken: &ProxyProtocol) -> ProxyHeader {
    if !taken.without_v2 && starts(bytes, V2) {
        return if bytes.len() < V2_HEAD { ProxyHeader::Partial } else { parse_v2(bytes) };
    }
    if !taken.without_v1 && starts(bytes, V1) {
        return if bytes.len() < V1.len() { ProxyHeader::Partial } else { parse_v1(bytes) };
    }
    ProxyHeader::Absent
}

/// The fields behind the addresses of a whole version 2 header, those that `pass` takes, as they stand there; `None` when
/// one is longer than its header. A version 1 header has none.
pub fn passed(header: &[u8], pass: &PassFields) -> Option<Vec<u8>> {
    let addresses = match (header.starts_with(V2), header.get(13)) {
        (true, Some(0x11)) => 12,
        (true, Some(0x21)) => 36,
        _ => return Some(Vec::new()),
    };
    let mut rest = header.get(V2_HEAD + addresses..).unwrap_or_default();
    let mut found = Vec::new();
    while let [kind, high, low, ..] = *rest {
        let (field, behind) = rest.split_at_checked(3 + usize::from(u16::from_be_bytes([high, low])))?;
        if pass.takes(kind) {
            found.extend_from_slice(field);
        }
        rest = behind;
    }
    rest.is_empty().then_some(found)
}

/// Whether `bytes` begins with `signature`, or is itself a beginning of it.
fn starts(bytes: &[u8], signature: &[u8]) -> bool {
    let common = bytes.len().min(signature.len());
    bytes[..common] == signature[..common]
}

fn parse_v1(bytes: &[u8]) -> ProxyHeader {
    let window = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= V1_MAX { ProxyHeader::Malformed } else { ProxyHeader::Partial };
    };
    let Ok(line) = std::str::from_utf8(&window[..end]) else {
        return ProxyHeader::Malformed;
    };
    let length = end + 2;
    let fields: Vec<&str> = line.split(' ').skip(1).collect();
    match fields[..] {
        ["UNKNOWN", ..] => ProxyHeader::Present { length, addresses: None },
        [family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let pair = socket(family, source, source_port).zip(socket(family, destination, destination_port));
            pair.map_or(ProxyHeader::Malformed, |pair| ProxyHeader::Present { length, addresses: Some(pair) })
        }
        _ => ProxyHeader::Malformed,
    }
}

fn socket(family: &str, ip: &str, port: &str) -> Option<SocketAddr> {
    let ip: IpAddr = ip.parse().ok()?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| port.parse().ok()).flatten()?;
    (ip.is_ipv4() == (family == "TCP4")).then(|| SocketAddr::new(ip, port))
}

fn parse_v2(bytes: &[u8]) -> ProxyHeader {
    let (version, command) = (bytes[12] >> 4, bytes[12] & 0xf);
    let length = V2_HEAD + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if version != 2 || command > 1 {
        return ProxyHeader::Malformed;
    }
    if bytes.len() < length {
        return ProxyHeader::Partial;
    }
    let body = &bytes[V2_HEAD..length];
    let addresses = match (command, bytes[13]) {
        (0, _) => None,
        // As Envoy: a proxy may speak of datagrams, and no proxy of ours of Unix sockets or of what it does not know.
        (_, 0x11 | 0x12) => match read_v4(body) {
            Some(pair) => Some(pair),
            None => return ProxyHeader::Malformed,
        },
        (_, 0x21 | 0x22) => match read_v6(body) {
            Some(pair) => Some(pair),
            None => return ProxyHeader::Malformed,
        },
        _ => return ProxyHeader::Malformed,
    };
    ProxyHeader::Present { length, addresses }
}

fn port(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn read_v4(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let body = body.get(..12)?;
    let ip = |at: usize| IpAddr::from(Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]));
    Some((SocketAddr::new(ip(0), port(body, 8)), SocketAddr::new(ip(4), port(body, 10))))
}

fn read_v6(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let body = body.get(..36)?;
    let ip =
        |at: usize| <[u8; 16]>::try_from(&body[at..at + 16]).ok().map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
    Some((SocketAddr::new(ip(0)?, port(body, 32)), SocketAddr::new(ip(16)?, port(body, 34))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn present(length: usize, source: &str, destination: &str) -> ProxyHeader {
        let pair = (source.parse().unwrap(), destination.parse().unwrap());
        ProxyHeader::Present { length, addresses: Some(pair) }
    }

    #[test]
    fn version_1() {
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\nGET /";
        assert_eq!(parse(line), present(40, "192.0.2.1:5000", "192.0.2.2:80"));
        assert_eq!(parse(b"PROXY TCP6 ::1 ::2 1 2\r\n"), present(24, "[::1]:1", "[::2]:2"));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), ProxyHeader::Present { length: 15, addresses: None });
        for bad in ["PROXY TCP4 ::1 ::2 1 2\r\n", "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", "PROXY TCP4\r\n", "PROXY \r\n"]
        {
            assert_eq!(parse(bad.as_bytes()), ProxyHeader::Malformed, "{bad}");
        }
        assert_eq!(parse(&[b"PROXY ".to_vec(), vec![b'x'; 200]].concat()), ProxyHeader::Malformed);
        assert_eq!(parse(b"PROX"), ProxyHeader::Partial);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), ProxyHeader::Absent);
    }

    #[test]
    fn version_2() {
        let head = |command: u8, family: u8, body: &[u8]| {
            [V2, &[0x20 | command, family], &(body.len() as u16).to_be_bytes(), body].concat()
        };
        let body = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 80, 9, 9];
        assert_eq!(parse(&head(1, 0x11, &body)), present(30, "192.0.2.1:5000", "192.0.2.2:80"));
        assert_eq!(parse(&head(0, 0, &[])), ProxyHeader::Present { length: 16, addresses: None });
        assert_eq!(parse(&head(1, 0x11, &body[..4])), ProxyHeader::Malformed);
        assert_eq!(parse(&head(2, 0x11, &body)), ProxyHeader::Malformed);
        assert_eq!(parse(&head(1, 0x12, &body)), present(30, "192.0.2.1:5000", "192.0.2.2:80"));
        for family in [0x00, 0x10, 0x31, 0x32, 0x41] {
            assert_eq!(parse(&head(1, family, &body)), ProxyHeader::Malformed, "{family:02x}");
        }
        let whole = head(1, 0x11, &body);
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), ProxyHeader::Partial, "cut at {cut}");
        }
    }

    #[test]
    fn fields_pass_as_they_stand() {
        let body = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 80, 0xe0, 0, 2, b'h', b'i', 4, 0, 0, 0xe1, 0, 1, 7];
        let header = [V2, &[0x21, 0x11, 0, body.len() as u8], &body].concat();
        assert_eq!(passed(&header, &PassFields::All).as_deref(), Some(&body[12..]));
        let only = PassFields::Only([0xe1, 0xe0].into());
        assert_eq!(passed(&header, &only).unwrap(), [0xe0, 0, 2, b'h', b'i', 0xe1, 0, 1, 7]);
        assert_eq!(passed(&header[..header.len() - 1], &only), None);
        assert_eq!(passed(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", &only), Some(Vec::new()));
    }

    #[test]
    fn versions_that_are_not_taken_are_none() {
        let without = ProxyProtocol { without_v1: true, ..ProxyProtocol::default() };
        assert_eq!(parse_for(b"PROXY UNKNOWN\r\n", &without), ProxyHeader::Absent);
        assert_eq!(parse_for(V2, &without), ProxyHeader::Partial);
        let without = ProxyProtocol { without_v2: true, ..ProxyProtocol::default() };
        assert_eq!(parse_for(V2, &without), ProxyHeader::Absent);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..80)) {
            parse(&tail);
            parse(&[V2, &tail].concat());
            parse(&[V1, &tail].concat());
        }
    }
}
