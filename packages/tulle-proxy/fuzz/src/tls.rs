//! The first bytes of a connection: PROXY headers and ClientHellos, read as the rest of the process reads them.

use rustls::server::Acceptor;
use tulle_listen::client_hello::{self, ClientHello, Hello};
use tulle_listen::proxy_protocol::{self, ProxyHeader};

pub fn proxy_protocol(data: &[u8]) {
    let found = proxy_protocol::parse(data);
    let ProxyHeader::Present { length, .. } = found else { return };
    assert!((1..=data.len()).contains(&length));
    assert_eq!(proxy_protocol::parse(&data[..length]), found, "what follows matters");
    for cut in [0, 1, 5, 6, 12, 15, 16, length / 2, length - 1] {
        if cut < length {
            assert_eq!(proxy_protocol::parse(&data[..cut]), ProxyHeader::Partial, "cut at {cut}");
        }
    }
}

/// The name by which the filter chain is chosen is the one that the handshake goes on with.
pub fn client_hello(data: &[u8]) {
    let found = client_hello::parse(data);
    let Hello::Complete(ClientHello { server_name, alpn }) = &found else { return };
    for cut in [1, 4, 5, 9, data.len() / 2, data.len() - 1] {
        let early = client_hello::parse(&data[..cut.min(data.len())]);
        assert!(early == Hello::Partial || early == found, "cut at {cut}: {early:?}");
    }
    let (mut acceptor, mut rest) = (Acceptor::default(), data);
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return;
        }
    }
    let Ok(Some(accepted)) = acceptor.accept() else { return };
    let theirs = accepted.client_hello();
    let name = theirs.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    // Addresses are no names to rustls; nobody is chosen by one.
    let ours = server_name.clone().filter(|name| name.parse::<std::net::IpAddr>().is_err());
    assert_eq!(ours, name);
    let protocols: Vec<_> = theirs.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
    assert_eq!(*alpn, protocols);
}
