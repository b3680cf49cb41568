//! Reads SNI and ALPN from a TLS ClientHello without consuming it (RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301 §3.1).

/// What the first bytes of a connection are, as far as TLS is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed.
    Partial,
    /// Not a TLS handshake.
    NotTls,
    /// A TLS handshake record that holds no acceptable ClientHello.
    Malformed,
    Complete(ClientHello),
}

/// The parts of a ClientHello that choose a filter chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Lower case, without a trailing dot.
    pub server_name: Option<String>,
    /// In the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// A ClientHello longer than this is refused, as in Envoy's TLS inspector.
pub const MAX_HELLO: usize = 16 * 1024;
const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Looks at the bytes received so far, from the first one on.
pub fn parse(bytes: &[u8]) -> Hello {
    match bytes {
        [] => return Hello::Partial,
        [first, ..] if *first != HANDSHAKE => return Hello::NotTls,
        [_, major, ..] if *major != 3 => return Hello::NotTls,
        _ => {}
    }
    match reassemble(bytes) {
        Some(Ok(body)) => read_hello(&body).map_or(Hello::Malformed, Hello::Complete),
        Some(Err(())) => Hello::Malformed,
        None if bytes.len() > MAX_HELLO + RECORD_HEADER => Hello::Malformed,
        None => Hello::Partial,
    }
}

/// The ClientHello's body, joined from the records it is spread over; `None` while bytes are missing.
fn reassemble(mut bytes: &[u8]) -> Option<Result<Vec<u8>, ()>> {
    let mut handshake = Vec::new();
    loop {
        if let Some(header) = handshake.get(..4) {
            let [kind, a, b, c] = *header else {
                return Some(Err(()));
            };
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if kind != CLIENT_HELLO || length > MAX_HELLO {
                return Some(Err(()));
            }
            if handshake.len() >= 4 + length {
                return Some(Ok(handshake[4..4 + length].to_vec()));
            }
        }
        let header = bytes.get(..RECORD_HEADER)?;
        let length = usize::from(header[3]) << 8 | usize::from(header[4]);
        if header[0] != HANDSHAKE || length == 0 || length > MAX_HELLO {
            return Some(Err(()));
        }
        let record = bytes.get(RECORD_HEADER..)?;
        handshake.extend_from_slice(&record[..record.len().min(length)]);
        if record.len() < length {
            return None;
        }
        bytes = &record[length..];
    }
}

/// Cuts lengths and vectors off the front of a slice; every method is `None` when too little is left.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length)
    }

    fn number16(&mut self) -> Option<u16> {
        let two = self.take(2)?;
        Some(u16::from_be_bytes([two[0], two[1]]))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.number16()?);
        self.take(length)
    }
}

fn read_hello(body: &[u8]) -> Option<ClientHello> {
    let mut cursor = Cursor(body);
    cursor.take(2 + 32)?; // legacy_version, random
    cursor.vector8()?; // legacy_session_id
    cursor.vector16()?; // cipher_suites
    cursor.vector8()?; // legacy_compression_methods
    let mut hello = ClientHello::default();
    if cursor.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Cursor(cursor.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let data = extensions.vector16()?;
        match kind {
            0 => hello.server_name = read_server_name(data)?,
            16 => hello.alpn = read_alpn(data)?,
            _ => {}
        }
    }
    Some(hello)
}

/// Outer `None`: malformed. Inner `None`: no host name among the names.
fn read_server_name(data: &[u8]) -> Option<Option<String>> {
    let mut names = Cursor(Cursor(data).vector16()?);
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector16()?;
        if kind == 0 {
            let text =
                std::str::from_utf8(name).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))?;
            return Some(Some(text.trim_end_matches('.').to_ascii_lowercase()));
        }
    }
    Some(None)
}

fn read_alpn(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Cursor(Cursor(data).vector16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector8().filter(|name| !name.is_empty())?.to_vec());
    }
    Some(protocols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
    }

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut handshake = vec![1, 0];
        handshake.extend((body.len() as u16).to_be_bytes());
        handshake.extend(body);
        handshake
    }

    fn record(payload: &[u8]) -> Vec<u8> {
        [&[22, 3, 1][..], &(payload.len() as u16).to_be_bytes(), payload].concat()
    }

    fn sample() -> Vec<u8> {
        let sni = extension(0, &[&[0, 14, 0, 0, 11][..], b"App.Example"].concat());
        let alpn = extension(16, &[&[0, 12, 2][..], b"h2", &[8], b"http/1.1"].concat());
        hello(&[sni, alpn].concat())
    }

    #[test]
    fn sni_and_alpn_are_read() {
        let Hello::Complete(found) = parse(&record(&sample())) else { panic!("not complete") };
        assert_eq!(found.server_name.as_deref(), Some("app.example"));
        assert_eq!(found.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_hello_spread_over_records_is_joined() {
        let handshake = sample();
        let (first, second) = handshake.split_at(9);
        let bytes = [record(first), record(second)].concat();
        assert!(matches!(parse(&bytes), Hello::Complete(_)));
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Hello::Partial, "cut at {cut}");
        }
    }

    #[test]
    fn other_protocols_are_told_apart() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Hello::NotTls),
            (&[22, 2, 0, 0, 0][..], Hello::NotTls),
            (&[22, 3, 1, 0, 0][..], Hello::Malformed),
            (&[22, 3, 1, 0, 4, 2, 0, 0, 1][..], Hello::Malformed),
        ] {
            assert_eq!(parse(bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
            if bytes.len() > 2 { bytes[0] = 22; bytes[1] = 3; }
            parse(&bytes);
        }

        #[test]
        fn a_damaged_hello_never_panics(at in 0usize..80, value in any::<u8>()) {
            let mut bytes = record(&sample());
            let length = bytes.len();
            bytes[at % length] = value;
            parse(&bytes);
        }
    }
}
