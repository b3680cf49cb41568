//! Picks the filter chain for a connection by Envoy's rule: criterion by criterion, the most specific value wins and
//! what it excludes is never considered again (listener_components.proto, `FilterChainMatch`).

use std::net::{IpAddr, SocketAddr};

use tulle_config::listener::{SourceType, TransportProtocol};
use tulle_config::{Cidr, FilterChain, Listener};

/// What is known of a connection once its first bytes were inspected.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// The original destination where it was restored, else the socket's own address.
    pub destination: SocketAddr,
    /// The client's address (from PROXY protocol where that is on).
    pub source: SocketAddr,
    /// The socket's peer.
    pub direct_source: SocketAddr,
    /// Lower case.
    pub server_name: Option<&'a str>,
    pub tls: bool,
    /// ALPN of the ClientHello, or the protocol that HTTP inspection found.
    pub application_protocols: &'a [Vec<u8>],
}

/// The chain that takes this connection; `None` when none does and the listener has no default.
pub fn select_chain<'l>(listener: &'l Listener, facts: &ConnectionFacts<'_>) -> Option<&'l FilterChain> {
    let mut left: Vec<&FilterChain> = listener.chains.iter().collect();
    type Level = fn(&FilterChain, &ConnectionFacts<'_>) -> Option<u32>;
    const LEVELS: [Level; 9] = [
        by_port,
        by_destination,
        by_server_name,
        by_transport,
        by_application_protocol,
        by_direct_source,
        by_source_type,
        by_source,
        by_source_port,
    ];
    for level in LEVELS {
        let Some(best) = left.iter().filter_map(|chain| level(chain, facts)).max() else {
            return listener.default_chain.as_ref();
        };
        left.retain(|chain| level(chain, facts) == Some(best));
    }
    left.first().copied().or(listener.default_chain.as_ref())
}

/// Each level answers `None` for no match and else how specific the match is; 0 is "matches everything".
fn by_port(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    match chain.matches.destination_port {
        None => Some(0),
        Some(port) => (port == facts.destination.port()).then_some(1),
    }
}

fn longest_prefix(ranges: &[Cidr], ip: IpAddr) -> Option<u32> {
    if ranges.is_empty() {
        return Some(0);
    }
    // A /0 range is still more specific than no range at all.
    ranges.iter().filter(|range| range.contains(ip)).map(|range| u32::from(range.prefix_len()) + 1).max()
}

fn by_destination(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    longest_prefix(&chain.matches.destination_ranges, facts.destination.ip())
}

fn by_server_name(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    let names = &chain.matches.server_names;
    if names.is_empty() {
        return Some(0);
    }
    let asked = facts.server_name?;
    names.iter().filter_map(|name| name_specificity(name, asked)).max()
}

fn name_specificity(name: &str, asked: &str) -> Option<u32> {
    if name == asked {
        return Some(u32::MAX);
    }
    let suffix = name.strip_prefix('*')?;
    let longer = asked.len() > suffix.len() && asked.ends_with(suffix);
    longer.then_some(suffix.len() as u32)
}

fn by_transport(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    match chain.matches.transport_protocol {
        None => Some(0),
        Some(TransportProtocol::Tls) => facts.tls.then_some(1),
        Some(TransportProtocol::RawBuffer) => (!facts.tls).then_some(1),
    }
}

fn by_application_protocol(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    let wanted = &chain.matches.application_protocols;
    if wanted.is_empty() {
        return Some(0);
    }
    // The client's first choice that any chain names decides; earlier is more specific.
    let position = facts
        .application_protocols
        .iter()
        .position(|offered| wanted.iter().any(|name| name.as_bytes() == offered.as_slice()))?;
    Some(u32::MAX - position as u32)
}

fn by_direct_source(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    longest_prefix(&chain.matches.source.direct_ranges, facts.direct_source.ip())
}

fn by_source_type(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    let source = facts.source.ip();
    let local = source.is_loopback() || source == facts.destination.ip();
    match chain.matches.source.kind {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => local.then_some(1),
        SourceType::External => (!local).then_some(1),
    }
}

fn by_source(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    longest_prefix(&chain.matches.source.ranges, facts.source.ip())
}

fn by_source_port(chain: &FilterChain, facts: &ConnectionFacts<'_>) -> Option<u32> {
    let ports = &chain.matches.source.ports;
    match ports.is_empty() {
        true => Some(0),
        false => ports.contains(&facts.source.port()).then_some(1),
    }
}
